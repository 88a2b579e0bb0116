# SPDX-License-Identifier: Apache-2.0
"""The caller changes what a module gave, in place, before the backward."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm

T, N, D, H = 4, 3, 3, 4
MAKERS: dict[str, Callable[..., nn.Module]] = {
    "lstm": lambda **k: ltlstm.LSTM(D, H, 2, **k),
    "bidirectional": lambda **k: ltlstm.LSTM(D, H, bidirectional=True, proj_size=2, **k),
    "batch_first": lambda **k: ltlstm.LSTM(D, H, batch_first=True, **k),
    "residual": lambda **k: ltlstm.ResidualLSTM(D, H, 3, **k),
    "residual_of_one": lambda **k: ltlstm.ResidualLSTM(D, H, **k),
    "lt": lambda **k: ltlstm.LTLSTM(D, H, 2, **k),
    "gated": lambda **k: ltlstm.LTLSTM(D, H, 2, depth_unit="gated", **k),
    "max": lambda **k: ltlstm.LTLSTM(D, H, 2, depth_unit="max", **k),
    "lookahead": lambda **k: ltlstm.LTLSTM(D, H, 2, lookahead=1, **k),
    "hlstm": lambda **k: ltlstm.HLSTM(D, H, **k),
}
EVERY = pytest.mark.parametrize("name", MAKERS)
Changed = Callable[[Tensor, Tensor, Tensor], Tensor]


def in_place(output: Tensor, h: Tensor, c: Tensor) -> Tensor:
    output[-1] = 0
    output.add_(0.05)
    torch.relu_(output)
    return output.square().sum() + h.add_(1).square().sum() + c.mul_(2).square().sum()


def beside(output: Tensor, h: Tensor, c: Tensor) -> Tensor:
    kept = torch.ones_like(output)
    kept[-1] = 0
    output = torch.relu(output * kept + 0.05)
    return output.square().sum() + (h + 1).square().sum() + (c * 2).square().sum()


def gradients(call: Callable[..., Any], change: Changed, module: nn.Module, *x: Any) -> Any:
    output, (h, c), *_ = call(*x)
    data = output if isinstance(output, Tensor) else output.data
    return torch.autograd.grad(change(data, h, c), list(module.parameters()))


def assert_same(found: Any, want: Any) -> None:
    for a, b in zip(found, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("form", ["padded", "packed", "lengths", "reset", "states"])
@EVERY
def test_eagerly(name: str, form: str) -> None:
    module, x = MAKERS[name](), torch.randn(T, T, D)
    lengths = torch.tensor([4, 1, 3, 4])
    kwargs: dict[str, Any] = {
        "lengths": {"lengths": lengths},
        "reset": {"reset": torch.rand(T, T) < 0.4},
        "states": {"return_states": True},
    }.get(form, {})
    given: Any = x
    if form == "packed":
        given = pack_padded_sequence(x, lengths, name == "batch_first", enforce_sorted=False)

    def call(given: Any) -> Any:
        return module(given, **kwargs)

    assert_same(gradients(call, in_place, module, given), gradients(call, beside, module, given))


@pytest.mark.parametrize("options", [{"proj_size": 2}, {"dtype": torch.float64}, {}])
def test_as_nn_lstm_where_that_can(options: dict[str, Any]) -> None:
    module = ltlstm.LSTM(D, H, 2, bidirectional=True, **options)
    x = torch.randn(T, N, D, dtype=options.get("dtype", torch.float32))
    twin = module.to_torch()
    assert_same(gradients(module, in_place, module, x), gradients(twin, in_place, twin, x))


@pytest.mark.parametrize(
    "name, backend",
    [("lstm", "inductor"), ("lstm", "aot_eager"), ("lt", "aot_eager"), ("hlstm", "aot_eager")],
)
def test_compiled(name: str, backend: str) -> None:
    torch._dynamo.reset()
    module, x = MAKERS[name](), torch.randn(T, N, D)
    want = gradients(module, beside, module, x)
    compiled = torch.compile(module, fullgraph=True, backend=backend)
    assert_same(gradients(compiled, in_place, module, x), want)  # outside of the graph

    @torch.compile(fullgraph=True, backend=backend)
    def loss(x: Tensor) -> Tensor:  # inside
        output, (h, c) = module(x)
        return in_place(output, h, c)

    assert_same(torch.autograd.grad(loss(x), list(module.parameters())), want)


def test_dropout_in_place() -> None:
    module, x = ltlstm.LSTM(D, H), torch.randn(T, N, D)
    found = []
    for inplace in (True, False):
        torch.manual_seed(0)
        loss = nn.functional.dropout(module(x)[0], 0.5, inplace=inplace).square().sum()
        found.append(torch.autograd.grad(loss, list(module.parameters())))
    assert_same(*found)


def test_a_state_of_every_step_that_the_backward_reads_is_not_silent() -> None:
    module, x = ltlstm.LSTM(D, H), torch.randn(T, N, D)
    output, _, states = module(x, return_states=True)
    states.c.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_nothing_is_copied_without_gradients() -> None:
    module, x = ltlstm.LSTM(D, H, backend="cpu"), torch.randn(T, N, D)
    with torch.no_grad(), torch.profiler.profile() as profile:
        module(x)
    assert "aten::clone" not in {event.key for event in profile.key_averages()}
