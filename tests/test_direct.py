# SPDX-License-Identifier: Apache-2.0
"""Calls that go to their operator at once: which do, and that the result is the same."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import ltlstm
from ltlstm.modules.recurrent import Recurrent
from sparse_masks import mask_of

T, N, D, H = 3, 2, 4, 6
State = tuple[Tensor, Tensor]


@pytest.fixture(autouse=True)
def inference(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("LTLSTM_BACKEND", "LTLSTM_STRICT"):
        monkeypatch.delenv(name, raising=False)
    with torch.no_grad():
        yield


def problem(module: nn.Module, **kwargs: Any) -> tuple[Tensor, State]:
    """Input and state that fit a module."""
    torch.manual_seed(0)
    K = module.num_layers * (2 if module.bidirectional else 1)
    shape = (N, T, D) if module.batch_first else (T, N, D)
    P = module.proj_size or H
    return torch.randn(shape, **kwargs), (
        torch.randn(K, N, P, **kwargs),
        torch.randn(K, N, H, **kwargs),
    )


MODULES: dict[str, Callable[[], Recurrent]] = {
    "LSTM": lambda: ltlstm.LSTM(D, H),
    "stack": lambda: ltlstm.LSTM(D, H, 2, batch_first=True, bidirectional=True),
    "projection": lambda: ltlstm.LSTM(D, H, 2, proj_size=3, bias=False),
    "float64": lambda: ltlstm.LSTM(D, H).double(),
    "dropout that rests": lambda: ltlstm.LSTM(D, H, 2, dropout=0.5).eval(),
    "LTLSTM": lambda: ltlstm.LTLSTM(D, H, 2),
    "LTLSTM with all": lambda: ltlstm.LTLSTM(
        D, H, 2, batch_first=True, bidirectional=True, proj_size=3, peephole=True
    ),
    "HLSTM": lambda: ltlstm.HLSTM(D, H, 2, bidirectional=True, gate_num_layers=2),
    "HLSTM without its dropout": lambda: ltlstm.HLSTM(D, H, gate_dropout=0.5).eval(),
    "LTLSTM shared": lambda: ltlstm.LTLSTM(D, H, 3, share_layer_weights=True, lanes=True),
}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_a_direct_call_gives_the_same_bits(make: Callable[[], Recurrent]) -> None:
    module = make()
    x, hx = problem(module, dtype=module._first_weight.dtype)
    found = module._forward_direct(x, hx)
    assert found is not None
    expected = module(x, hx, return_states=True)[:2]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(module(x, hx), expected, rtol=0, atol=0)


def test_weights_and_inputs_of_any_strides() -> None:
    module = ltlstm.LSTM(D, H)
    module.weight_hh_l0 = nn.Parameter(module.weight_hh_l0.detach().t().contiguous().t())
    x, (h, c) = problem(module)
    apart = torch.randn(T, N, 2 * D)[..., ::2].copy_(x)
    assert module._forward_direct(apart, (h, c)) is not None
    torch.testing.assert_close(module(apart, (h, c)), module(x, (h, c)), rtol=0, atol=0)


def test_compiled_sparse_weights_are_what_a_direct_call_reads() -> None:
    module = ltlstm.HLSTM(96, 96).eval()
    for seed, mask in enumerate(module.buffers()):
        mask.copy_(mask_of("element", mask.shape, 0.1, seed))
    x, hx = torch.randn(T, N, 96), (torch.randn(1, N, 96), torch.randn(1, N, 96))
    masked = module._forward_direct(x, hx)
    compiled = module.compile_sparse()
    assert compiled is not None
    found = compiled._forward_direct(x, hx)
    assert found is not None and masked is not None
    torch.testing.assert_close(found, masked)
    torch.testing.assert_close(compiled(x, hx), compiled(x, hx, lengths=torch.full((N,), T)))
    module.weight_hh_l0.data.zero_()  # it stays what it was
    torch.testing.assert_close(compiled._forward_direct(x, hx), found, rtol=0, atol=0)
    changed = module._forward_direct(x, hx)
    assert changed is not None and not torch.allclose(changed[0], masked[0])


def test_an_activation_that_is_none_is_refused() -> None:
    module = ltlstm.HLSTM(D, H)
    module.activation = "tanh"
    with pytest.raises(ValueError, match="activation must be one of"):
        module(*problem(module))


def named(backend: str) -> Callable[[Recurrent], None]:
    return lambda module: setattr(module, "backend", backend)


# What makes a call more than its operator: something done to the module, or around the call.
MORE: dict[str, tuple[Callable[[Recurrent], Any], Callable[[], AbstractContextManager]]] = {
    "gradients": (lambda m: None, torch.enable_grad),
    "autocast": (lambda m: None, lambda: torch.autocast("cpu")),
    "use_backend": (lambda m: None, lambda: ltlstm.use_backend("reference")),
    "forward mode": (lambda m: None, torch.autograd.forward_ad.dual_level),
    "backend": (named("aten"), nullcontext),
    "an unknown backend": (named("fast"), nullcontext),
    "dropout": (lambda m: setattr(m, "dropout", 0.5), nullcontext),
    "float16": (lambda m: m.half(), nullcontext),
    "another device": (lambda m: m.to("meta"), nullcontext),
    "weight of a subclass": (
        lambda m: m._parameters.update(weight_hh_l0=Marked(m.weight_hh_l0)),
        nullcontext,
    ),
}


class Marked(nn.Parameter):
    """A parameter that is a subclass's."""


@pytest.mark.parametrize("more", MORE)
def test_a_call_that_is_more_takes_the_long_way(more: str) -> None:
    module = ltlstm.LSTM(D, H, 2)
    change, around = MORE[more]
    assert module._forward_direct(*problem(module)) is not None
    change(module)
    weight = module._first_weight
    x, hx = problem(module, dtype=weight.dtype, device=weight.device)
    with around():
        assert module._forward_direct(x, hx) is None


def test_the_environment_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ltlstm.LSTM(D, H)
    x, hx = problem(module)
    monkeypatch.setenv("LTLSTM_BACKEND", "reference")
    assert module._forward_direct(x, hx) is None
    monkeypatch.setenv("LTLSTM_BACKEND", "cpu")
    assert module._forward_direct(x, hx) is not None


def test_sizes_that_auto_leaves_to_aten() -> None:
    module = ltlstm.LSTM(8, 256)
    x, hx = torch.zeros(4, 64, 8), (torch.zeros(1, 64, 256), torch.zeros(1, 64, 256))
    assert ltlstm.explain(module, x).backend == "aten"
    assert module._forward_direct(x, hx) is None
    module.backend = "cpu"
    assert module._forward_direct(x, hx) is not None


def test_stacks_and_units_without_an_operator() -> None:
    for module in (
        ltlstm.ResidualLSTM(D, H, 2),
        ltlstm.HLSTM(D, H, gate_dropout=0.5),
        ltlstm.LTLSTM(D, H, 2, depth_unit="max"),
        ltlstm.LTLSTM(D, H, 2, lookahead=1),
    ):
        assert module._forward_direct(*problem(module)) is None


def test_transforms_and_fakes_see_the_whole_call() -> None:
    module = ltlstm.LSTM(D, H)
    x, hx = problem(module)
    several = torch.stack([x, 2 * x])
    found = torch.func.vmap(lambda one: module(one, hx)[0])(several)
    expected = torch.stack([module(one, hx)[0] for one in several])
    torch.testing.assert_close(found, expected)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert module(mode.from_tensor(x), tuple(map(mode.from_tensor, hx)))[0].shape == (T, N, H)


def test_the_question_of_explain_is_not_answered_by_a_run() -> None:
    module = ltlstm.LSTM(D, H)
    x, hx = problem(module)
    assert ltlstm.explain(module, x, hx).backend == "cpu"


def test_a_stream_of_single_steps_is_the_whole_sequence() -> None:
    for batch_first in (False, True):
        module = ltlstm.LTLSTM(D, H, 2, batch_first=batch_first)
        x, hx = problem(module)
        time = 1 if batch_first else 0
        stream = module.stream(hx)
        frames = [stream.push(chunk) for chunk in x.split(1, time)] + [stream.finish()]
        torch.testing.assert_close(torch.cat(frames, time), module(x, hx)[0], rtol=1e-6, atol=1e-6)
