# SPDX-License-Identifier: Apache-2.0
"""Whether torch.onnx.export is what traces a call."""

import torch


def _exporting() -> bool:
    return torch.onnx.is_in_onnx_export()


# Asked in earnest: the strict export, torch.onnx.export's second try, takes it for False. This is
# torch.compiler.assume_constant_result, which would import all of torch.compile.
_exporting._dynamo_marked_constant = True  # type: ignore[attr-defined]


def traces(op: str) -> bool:
    """Raises RuntimeError for the exporter of TorchScript, which can translate nothing of ours."""
    if torch.compiler.is_exporting():
        return _exporting()
    if torch.jit.is_tracing() and _exporting():
        raise RuntimeError(f"{op}: torch.onnx.export must have dynamo=True, got dynamo=False")
    return False
