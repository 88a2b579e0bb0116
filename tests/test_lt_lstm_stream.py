# SPDX-License-Identifier: Apache-2.0
"""A sequence chunk by chunk equals the sequence whole: by carrying hx, and by LTLSTM.stream."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ltlstm
from module_results import random_state
from tolerance import assert_close

T, N, D, H = 9, 2, 3, 4
CHUNKS = [[1] * T, [T], [2, 5, 2], [4, 1, 4], [1, 7, 1]]
OPTIONS = [
    {},
    {"peephole": True, "proj_size": 2},
    {"depth_unit": "gated"},
    {"depth_unit": "max", "bias": False},
    {"lookahead": 1},
    {"lookahead": 2, "peephole": True, "proj_size": 2},
    {"lookahead": 2, "share_layer_weights": True},
    {"lookahead": 3, "depth_unit": "gated"},
    {"lookahead": 1, "depth_unit": "max"},
    {"lookahead": 5, "bias": False},
    {"lookahead": 2, "num_layers": 1},
]


def made(**options: Any) -> ltlstm.LTLSTM:
    module = ltlstm.LTLSTM(D, H, **{"num_layers": 3, **options}, dropout=0.5)
    for name, parameter in module.named_parameters():
        if name.startswith("traj_context"):
            nn.init.normal_(parameter)
    return module


def check_equal(found: Tensor, module: ltlstm.LTLSTM, x: Tensor, hx: Any) -> None:
    """Against the sequence whole, by the tolerance rule: dropout does not act."""
    module.eval()
    plain = module(x, hx)[0]
    double_hx = None if hx is None else (hx[0].double(), hx[1].double())
    exact = copy.deepcopy(module).double()
    exact.backend = "reference"
    truth = exact(x.double(), double_hx)[0]
    assert_close(found, truth, plain)


@pytest.mark.parametrize("sizes", CHUNKS, ids=str)
@pytest.mark.parametrize("module_class", [ltlstm.LSTM, ltlstm.ResidualLSTM, ltlstm.LTLSTM])
def test_carried_state(module_class: Any, sizes: list[int]) -> None:
    module = module_class(D, H, 3)
    x, hx = torch.randn(T, N, D), random_state(module, N)
    state, frames = hx, []
    for chunk in x.split(sizes):
        output, state = module(chunk, state)
        frames.append(output)
    check_equal(torch.cat(frames), module, x, hx)


@pytest.mark.parametrize("backend", [None, "reference"])
@pytest.mark.parametrize("sizes", CHUNKS, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_stream(options: dict[str, Any], sizes: list[int], backend: str | None) -> None:
    module = made(**options, backend=backend)
    x, hx = torch.randn(T, N, D), random_state(module, N)
    stream = module.stream(hx)
    frames, seen = [], 0
    behind = module.lookahead * (module.num_layers - 1)
    for chunk in x.split(sizes):
        frames.append(stream.push(chunk))
        seen += len(chunk)
        assert sum(map(len, frames)) == max(seen - behind, 0)  # all that can be known by now
    state = stream.hx
    frames.append(stream.finish())
    module.eval()
    torch.testing.assert_close(state, module(x, hx)[1])
    check_equal(torch.cat(frames), module, x, hx)


@pytest.mark.parametrize("lookahead", [0, 2])
def test_stream_in_every_form(lookahead: int) -> None:
    module = made(lookahead=lookahead, batch_first=True)
    x = torch.randn(N, T, D)
    stream = module.stream()
    frames = [stream.push(chunk) for chunk in x.split([4, 5], dim=1)] + [stream.finish()]
    check_equal(torch.cat(frames, 1), module, x, None)
    stream = module.stream()
    frames = [stream.push(chunk) for chunk in x[0].split([4, 5])] + [stream.finish()]
    check_equal(torch.cat(frames), module, x[0], None)


@pytest.mark.parametrize("lookahead", [0, 2])
def test_gradients_flow_through_a_stream(lookahead: int) -> None:
    module = made(lookahead=lookahead).double().eval()
    x = torch.randn(T, N, D, dtype=torch.float64)
    outer = torch.randn(T, N, H, dtype=torch.float64)
    stream = module.stream()
    frames = [stream.push(chunk) for chunk in x.split(2)] + [stream.finish()]
    found = torch.autograd.grad(torch.cat(frames), list(module.parameters()), outer)
    expected = torch.autograd.grad(module(x)[0], list(module.parameters()), outer)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_stream_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"LTLSTM.stream: .* must not be bidirectional .*, got"):
        made(bidirectional=True).stream()
    stream = made(lookahead=1).stream()
    with pytest.raises(RuntimeError, match="Stream.finish: must follow a push, .* got no chunk"):
        stream.finish()
    stream.push(torch.randn(3, N, D))
    with pytest.raises(RuntimeError, match="Expected hidden.0. size"):
        stream.push(torch.randn(3, N + 1, D))
    stream.finish()
    with pytest.raises(RuntimeError, match="Stream.push: the stream must not be finished"):
        stream.push(torch.randn(3, N, D))
    with pytest.raises(RuntimeError, match="Stream.finish: must follow a push, and come once"):
        stream.finish()
