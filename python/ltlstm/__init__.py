# SPDX-License-Identifier: Apache-2.0
"""LSTM, layer trajectory LSTM and residual LSTM for PyTorch, on this package's own operators."""

from importlib.metadata import PackageNotFoundError, version

from ltlstm import autograd as autograd  # registers the operators' derivatives
from ltlstm import functional, reference
from ltlstm.modules import LSTM, LTLSTM, LSTMCell, LTLSTMCell, ResidualLSTM

try:
    __version__ = version("ltlstm")
except PackageNotFoundError:  # run from its sources
    __version__ = "unknown"

__all__ = [
    "LSTM",
    "LTLSTM",
    "LSTMCell",
    "LTLSTMCell",
    "ResidualLSTM",
    "__version__",
    "functional",
    "reference",
]
