# SPDX-License-Identifier: Apache-2.0
"""The stacks and cells as torch modules."""

from ltlstm.modules.cells import LSTMCell, LTLSTMCell
from ltlstm.modules.h_lstm import HLSTM, HLSTMCell
from ltlstm.modules.lstm import LSTM, ResidualLSTM
from ltlstm.modules.lt_lstm import LTLSTM
from ltlstm.modules.stream import Stream

__all__ = [
    "HLSTM",
    "LSTM",
    "LTLSTM",
    "HLSTMCell",
    "LSTMCell",
    "LTLSTMCell",
    "ResidualLSTM",
    "Stream",
]
