# SPDX-License-Identifier: Apache-2.0
"""LSTM, layer trajectory LSTM, residual LSTM and H-LSTM for PyTorch, on our own operators."""

from importlib.metadata import PackageNotFoundError, version

from ltlstm import autograd as autograd  # registers the operators' derivatives
from ltlstm import functional, reference, sparsity
from ltlstm.convert import (
    ConvertReport,
    convert_,
    convert_report,
    patch_torch,
    revert_,
    revert_report,
)
from ltlstm.modules import (
    HLSTM,
    LSTM,
    LTLSTM,
    HLSTMCell,
    LSTMCell,
    LTLSTMCell,
    ResidualLSTM,
)
from ltlstm.modules.explain import explain
from ltlstm_kernels.backend import available_backends, use_backend

try:
    __version__ = version("ltlstm")
except PackageNotFoundError:  # run from its sources
    __version__ = "unknown"

__all__ = [
    "ConvertReport",
    "HLSTM",
    "HLSTMCell",
    "LSTM",
    "LTLSTM",
    "LSTMCell",
    "LTLSTMCell",
    "ResidualLSTM",
    "__version__",
    "available_backends",
    "convert_",
    "convert_report",
    "explain",
    "functional",
    "patch_torch",
    "reference",
    "revert_",
    "revert_report",
    "sparsity",
    "use_backend",
]
