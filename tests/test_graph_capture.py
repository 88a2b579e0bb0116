# SPDX-License-Identifier: Apache-2.0
"""Graphs made by make_fx and AOT autograd: for any T and N, with no look at a value."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from functorch.compile import aot_function, aot_module, nop
from torch import Tensor, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import make_fx

import ltlstm
from module_results import flat

# No two sizes alike, for symbolic ones would be one then.
D, H, T, N = 5, 3, 11, 7
OTHER = (13, 9)  # of T and N
MAKERS: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: ltlstm.LSTM(D, H, 2),
    "bidirectional": lambda: ltlstm.LSTM(D, H, bidirectional=True, proj_size=2, batch_first=True),
    "residual": lambda: ltlstm.ResidualLSTM(D, H, 2),
    "lt": lambda: ltlstm.LTLSTM(D, H, 2, peephole=True),
    "lookahead": lambda: ltlstm.LTLSTM(D, H, 2, lookahead=1),
    "hlstm": lambda: ltlstm.HLSTM(D, H, gate_hidden_size=4),
}
CELLS: dict[str, Callable[[], nn.Module]] = {
    "lstm_cell": lambda: ltlstm.LSTMCell(D, H),
    "lt_cell": lambda: ltlstm.LTLSTMCell(D, H, 2),
    "hlstm_cell": lambda: ltlstm.HLSTMCell(D, H, gate_hidden_size=4),
}
EVERY = pytest.mark.parametrize("name", MAKERS)
SOME = pytest.mark.parametrize("name", ["lstm", "lookahead", "hlstm"])
State = dict[str, Tensor]


def state_of(module: nn.Module) -> State:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def input_of(module: nn.Module, T: int, N: int) -> Tensor:
    return torch.randn(N, T, D) if getattr(module, "batch_first", False) else torch.randn(T, N, D)


def operators(graph: torch.fx.GraphModule) -> list[str]:
    """The library's own, by name."""
    targets = [str(node.target) for node in graph.graph.nodes]
    return [t.removeprefix("ltlstm.").partition(".")[0] for t in targets if "ltlstm" in t]


def assert_same(found: Any, want: Any) -> None:
    for a, b in zip(flat(found).values(), flat(want).values(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "mode, gradients", [("symbolic", True), ("symbolic", False), ("fake", False), ("real", False)]
)
@EVERY
def test_make_fx(name: str, mode: str, gradients: bool) -> None:
    module = MAKERS[name]()

    def call(state: State, x: Tensor, *rest: Tensor) -> Any:
        results = functional_call(module, state, (x, *rest))
        if not gradients:
            return results
        wanted = [t for t in state.values() if t.requires_grad]
        return results, torch.autograd.grad(results[0].sum(), wanted)

    with torch.set_grad_enabled(gradients):
        state, x = state_of(module), input_of(module, T, N)
        graph = make_fx(call, tracing_mode=mode)(state, x)
        assert operators(graph)[0].endswith("_forward")
        other = input_of(module, *(OTHER if mode == "symbolic" else (T, N)))
        assert_same(graph(state, other), call(state, other))


@pytest.mark.parametrize("mode", ["symbolic", "fake", "real"])
@pytest.mark.parametrize("name", CELLS)
def test_make_fx_of_cells(name: str, mode: str) -> None:
    cell = CELLS[name]()

    def call(state: State, x: Tensor) -> Any:
        return functional_call(cell, state, (x,))

    state = state_of(cell)
    graph = make_fx(call, tracing_mode=mode)(state, torch.randn(N, D))
    other = torch.randn(9 if mode == "symbolic" else N, D)
    assert_same(graph(state, other), call(state, other))


@pytest.mark.parametrize("kind", ["lengths", "reset", "states", "hx"])
@SOME
def test_make_fx_of_every_argument(name: str, kind: str) -> None:
    module = MAKERS[name]()
    layers = 1 if name == "hlstm" else 2

    def arguments(T: int, N: int) -> Sequence[Tensor]:
        x = input_of(module, T, N)
        if kind == "lengths":
            return x, torch.randint(1, T + 1, (N,))
        if kind == "reset":
            return x, torch.rand(x.shape[:2]) < 0.4
        if kind == "hx":
            return x, torch.randn(layers, N, H), torch.randn(layers, N, H)
        return (x,)

    def call(state: State, x: Tensor, *rest: Tensor) -> Any:
        if kind == "hx":
            return functional_call(module, state, (x, rest))
        kwargs: dict[str, Any] = {kind: rest[0]} if rest else {"return_states": True}
        return functional_call(module, state, (x,), kwargs)

    state = state_of(module)
    graph = make_fx(call, tracing_mode="symbolic")(state, *arguments(T, N))
    other = arguments(*OTHER)
    assert_same(graph(state, *other), call(state, *other))


def test_a_table_of_measurements_decides_nothing_there() -> None:
    # Without gradients torch's own LSTM is faster at these sizes, and would be unrolled in time.
    module = ltlstm.LSTM(D, 512)
    with torch.no_grad():
        graph = make_fx(module, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
            torch.randn(3, 64, D)
        )
        assert operators(graph) == ["lstm_stack_forward"]
        x = torch.randn(*OTHER, D)
        assert_same(graph(x), module(x))


@EVERY
def test_aot_module_with_symbolic_sizes(name: str) -> None:
    module = MAKERS[name]()
    compiled = aot_module(module, fw_compiler=nop, bw_compiler=nop, dynamic=True)
    for sizes in ((T, N), OTHER):
        x, found = input_of(module, *sizes), []
        for called in (compiled, module):
            module.zero_grad()
            results = called(x)
            results[0].square().sum().backward()
            found.append((results, [p.grad for p in module.parameters()]))
        assert_same(*found)


@SOME
def test_aot_function_with_lengths(name: str) -> None:
    module = MAKERS[name]()
    names, tensors = zip(*state_of(module).items(), strict=True)

    def call(x: Tensor, lengths: Tensor, *tensors: Tensor) -> Tensor:
        state = dict(zip(names, tensors, strict=True))
        return functional_call(module, state, (x,), {"lengths": lengths})[0]

    compiled = aot_function(call, fw_compiler=nop, bw_compiler=nop, dynamic=True)
    for sizes in ((T, N), OTHER):
        x = input_of(module, *sizes).requires_grad_()
        lengths = torch.randint(1, sizes[0] + 1, sizes[1:])
        outputs = [f(x, lengths, *tensors) for f in (compiled, call)]
        assert_same(*outputs)
        assert_same(*(torch.autograd.grad(o.square().sum(), x) for o in outputs))


def test_a_mask_that_changes_after_the_capture_counts() -> None:
    module = ltlstm.HLSTM(D, H)
    graph = make_fx(module, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
        torch.randn(T, N, D)
    )
    for mask in module.buffers():
        mask.copy_(torch.rand(mask.shape) < 0.5)
    x = torch.randn(*OTHER, D)
    assert_same(graph(x), module(x))
