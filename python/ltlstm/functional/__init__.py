# SPDX-License-Identifier: Apache-2.0
"""Pure functions: weights and states in, outputs and states out; time-major.

Each call goes to the best backend that can serve it (``ltlstm_kernels.backend``), and to the plain
loops of ``ltlstm.reference`` under torch.func transforms, forward-mode differentiation and tensor
subclasses with a ``__torch_dispatch__``, which an operator would not see.
"""

from ltlstm.functional.cell import lstm_cell
from ltlstm.functional.h_lstm import h_lstm
from ltlstm.functional.stack import LSTMStates, lstm, residual_lstm
from ltlstm.functional.trajectory import LTLSTMStates, lt_lstm

__all__ = ["LSTMStates", "LTLSTMStates", "h_lstm", "lstm", "lstm_cell", "lt_lstm", "residual_lstm"]
