# SPDX-License-Identifier: Apache-2.0
"""A peer: onnxruntime on a model of one LSTM node, made here, without an exporter between."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.cases import Case

try:
    import onnx
    import onnxruntime
except ImportError as error:
    missing: str | None = str(error)
else:
    missing = None


def _weight(t: Tensor) -> Tensor:
    """(4H, ...) with gates i, f, g, o -> (1, 4H, ...) with ONNX's i, o, f, c."""
    i, f, g, o = t.chunk(4)
    return torch.cat([i, o, f, g])[None]


def _model(case: Case, weights: list[Tensor]) -> bytes:
    w_ih, w_hh, b_ih, b_hh = weights
    constants = {
        "W": _weight(w_ih),
        "R": _weight(w_hh),
        "B": torch.cat([_weight(b_ih), _weight(b_hh)], dim=1),
    }
    shapes = {
        "X": [case.T, case.N, case.D],
        "h0": [1, case.N, case.H],
        "c0": [1, case.N, case.H],
        "Y": [case.T, 1, case.N, case.H],
    }
    node = onnx.helper.make_node(
        "LSTM", ["X", "W", "R", "B", "", "h0", "c0"], ["Y"], hidden_size=case.H
    )
    values = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    graph = onnx.helper.make_graph(
        [node],
        "lstm",
        [values[name] for name in ("X", "h0", "c0")],
        [values["Y"]],
        [onnx.numpy_helper.from_array(t.numpy(), name) for name, t in constants.items()],
    )
    # Version 14 of the operators has this LSTM, and every onnxruntime of today reads both.
    opsets = [onnx.helper.make_opsetid("", 14)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def forward(
    case: Case, input: Tensor, h0: Tensor, c0: Tensor, weights: list[Tensor], threads: int
) -> Callable[[], tuple[Tensor, ...]]:
    """A call that gives the output (T, N, H); one layer, float32."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _model(case, weights), options, providers=["CPUExecutionProvider"]
    )
    feed = {"X": input.numpy(), "h0": h0.numpy(), "c0": c0.numpy()}

    def call() -> tuple[Tensor, ...]:
        return (torch.from_numpy(session.run(None, feed)[0]).squeeze(1),)

    return call
