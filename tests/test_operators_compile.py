# SPDX-License-Identifier: Apache-2.0
"""The operators under opcheck, torch.compile, torch.export and AOTInductor."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.export import Dim

from cases import EVERYTHING, Case, arguments
from ltlstm_kernels import ops
from operators import call, leaves, names, operator, raw, raw_flags

LANES = pytest.mark.parametrize("lanes", [1, 2], ids=["lstm_stack", "lt_lstm"])
# Every size another number: under dynamic shapes equal sizes become one symbol.
BASE = Case(T=6, N=4, D=5, H=7, L=2)
PADDED = replace(EVERYTHING, packed=False)


STATIC = ("test_schema", "test_autograd_registration", "test_faketensor")
ALL = (*STATIC, "test_aot_dispatch_dynamic")


def checked(
    op: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    tests: tuple[str, ...] = ALL,
) -> None:
    results = torch.library.opcheck(op, args, kwargs, test_utils=tests)
    assert set(results.values()) == {"SUCCESS"}


@LANES
@pytest.mark.parametrize("save", [True, False])
@pytest.mark.parametrize("case", [EVERYTHING, PADDED, replace(BASE, L=1, bias=False)], ids=str)
def test_opcheck_forward(case: Case, save: bool, lanes: int) -> None:
    made = arguments(case, torch.float32, lanes)
    if save:
        for leaf in leaves(made).values():
            leaf.requires_grad_()
    op = torch.ops.ltlstm.lt_lstm_forward if lanes == 2 else torch.ops.ltlstm.lstm_stack_forward
    checked(op.default, tuple(raw(made).values()), {**raw_flags(case, lanes), "save": save})


@LANES
@pytest.mark.parametrize("case", [EVERYTHING, replace(BASE, T=2)], ids=str)
@pytest.mark.parametrize("paths", ["all", "output"])
def test_opcheck_backward(case: Case, paths: str, lanes: int) -> None:
    made = arguments(case, torch.float32, lanes)
    results = list(call(case, made))
    outer: list[Tensor | None] = [torch.randn_like(results[0])]
    for i in (1, 2, 3, 4, 6, 7)[: 6 if lanes == 2 else 4]:
        outer.append(torch.randn_like(results[i]) if paths == "all" else None)
    for leaf in leaves(made).values():
        leaf.requires_grad_()
    saved = [results[0], *results[3:]]
    op = torch.ops.ltlstm.lt_lstm_backward if lanes == 2 else torch.ops.ltlstm.lstm_stack_backward
    # The second derivative runs the reference, whose steps follow the values in batch_sizes: what
    # depends on data cannot be traced, and torch.compile refuses double backward anyway.
    tests = STATIC if case.packed else ALL
    checked(op.default, (*outer, *raw(made).values(), *saved), raw_flags(case, lanes), tests)


@pytest.mark.parametrize("peephole", [False, True])
def test_opcheck_cell(peephole: bool) -> None:
    preact, c = torch.randn(3, 20, requires_grad=True), torch.randn(3, 5, requires_grad=True)
    p = torch.randn(3, 5, requires_grad=True) if peephole else None
    checked(torch.ops.ltlstm.cell_forward.default, (preact, c, p), {})
    outer = torch.randn(3, 5)
    checked(torch.ops.ltlstm.cell_backward.default, (outer, None, preact, c, p), {})
    checked(torch.ops.ltlstm.cell_backward.default, (outer, outer, preact, c, p), {})


@LANES
@pytest.mark.parametrize("case", [EVERYTHING, PADDED, BASE, replace(BASE, L=1)], ids=str)
def test_compile_whole_graph_for_training(case: Case, lanes: int) -> None:
    def loss(made: dict[str, Any]) -> Tensor:
        return torch.stack([r.sin().sum() for r in operator(case, made).values()]).sum()

    gradients = []
    for function in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        made = arguments(case, torch.float32, lanes)
        wanted = [leaf.requires_grad_() for leaf in leaves(made).values()]
        value = function(made)
        gradients.append([value.detach(), *torch.autograd.grad(value, wanted)])
    for eager, compiled in zip(*gradients, strict=True):
        assert torch.equal(eager, compiled)


@LANES
def test_compile_whole_graph_for_inference(lanes: int) -> None:
    made = arguments(EVERYTHING, torch.float32, lanes)

    def output(made: dict[str, Any]) -> Tensor:
        return call(EVERYTHING, made, save=False)[0]

    compiled = torch.compile(output, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(made), output(made))


@LANES
def test_another_length_does_not_recompile(lanes: int) -> None:
    counter = CompileCounterWithBackend("aot_eager")

    def loss(made: dict[str, Any]) -> Tensor:
        return operator(BASE, made)["output"].sum()

    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend=counter)
    for t, n in ((6, 4), (9, 4), (13, 4), (10, 8)):
        made = arguments(replace(BASE, T=t, N=n), torch.float32, lanes)
        for leaf in leaves(made).values():
            leaf.requires_grad_()
        compiled(made).backward()
        assert all(leaf.grad is not None for leaf in leaves(made).values())
    assert counter.frame_count == 1


class Stack(nn.Module):
    """The operator with its weights, as a user's model holds it."""

    def __init__(self, case: Case, lanes: int) -> None:
        super().__init__()
        made = arguments(case, torch.float32, lanes)
        self.case = case
        self.weights = nn.ParameterList(made["weights"])
        self.traj_weights = nn.ParameterList(made.get("traj_weights", []))

    def forward(self, x: Tensor) -> Tensor:
        c = self.case
        h0 = x.new_zeros(c.L * c.dirs, x.shape[1], c.out)
        c0 = x.new_zeros(c.L * c.dirs, x.shape[1], c.H)
        flat, traj = list(self.weights), list(self.traj_weights)
        if traj:
            return ops.lt_lstm_forward(
                x, h0, c0, flat, traj, [], None, None, **c.flags, save=False
            )[0]
        return ops.lstm_stack_forward(x, h0, c0, flat, [], None, None, **c.flags, save=False)[0]


def exported(case: Case, lanes: int) -> tuple[Stack, torch.export.ExportedProgram]:
    model = Stack(case, lanes).eval()
    dynamic = {"x": {0: Dim("T"), 1: Dim("N")}}
    with torch.no_grad():
        program = torch.export.export(
            model, (torch.randn(6, 4, case.D),), dynamic_shapes=dynamic, strict=False
        )
    return model, program


@LANES
def test_export_with_dynamic_time_and_batch(lanes: int) -> None:
    model, program = exported(replace(BASE, P=3, peephole=True, bidirectional=True), lanes)
    nodes = [n for n in program.graph.nodes if "ltlstm" in str(n.target)]
    assert len(nodes) == 1  # one operator, whole
    for t, n in ((5, 3), (1, 2), (33, 7)):
        x = torch.randn(t, n, model.case.D)
        assert torch.equal(program.module()(x), model(x))


def test_inductor_trains() -> None:
    made = arguments(EVERYTHING, torch.float32, lanes=2)
    wanted = [leaf.requires_grad_() for leaf in leaves(made).values()]

    def loss(made: dict[str, Any]) -> Tensor:
        results = operator(EVERYTHING, made)
        return torch.stack([results[name].sum() for name in names(2)]).sum()

    compiled = torch.compile(loss, fullgraph=True)
    eager_grads = torch.autograd.grad(loss(made), wanted)
    for a, b in zip(torch.autograd.grad(compiled(made), wanted), eager_grads, strict=True):
        assert torch.equal(a, b)


def test_aot_inductor_package(tmp_path: Path) -> None:
    model, program = exported(BASE, lanes=2)
    path = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / "model.pt2")
    )
    package = torch._inductor.aoti_load_package(path)
    for t, n in ((5, 3), (11, 2)):
        x = torch.randn(t, n, BASE.D)
        with torch.no_grad():
            assert torch.equal(package(x), model(x))
