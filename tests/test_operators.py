# SPDX-License-Identifier: Apache-2.0
"""The stack operators against the float64 reference: outputs and every gradient."""

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cases import CASES, EVERYTHING, LONG, TOGETHER, VERY_LONG, Case, arguments
from ltlstm import reference
from operators import DTYPES, F64, call, check, leaves, names, operator, oracle, run, threads
from tolerance import assert_all_close

LANES = pytest.mark.parametrize("lanes", [1, 2], ids=["lstm_stack", "lt_lstm"])
PATHS = [(lanes, path) for lanes in (1, 2) for path in names(lanes)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@LANES
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values_and_gradients(case: Case, lanes: int, dtype: torch.dtype) -> None:
    check(case, dtype, lanes)


@pytest.mark.parametrize("case", [EVERYTHING, Case(T=5, N=3, D=5, H=7, L=2)], ids=str)
@pytest.mark.parametrize("lanes, path", PATHS)
def test_each_output_gradient_alone(case: Case, lanes: int, path: str) -> None:
    check(case, torch.float32, lanes, (path,))


@pytest.mark.parametrize("case", [EVERYTHING, *TOGETHER], ids=str)
def test_lanes_side_by_side(case: Case) -> None:
    with threads(2):
        check(case, torch.float32, 2, how=partial(operator, side_by_side=True))


@LANES
@pytest.mark.parametrize("case", TOGETHER, ids=str)
def test_threads_that_meet_at_every_step(case: Case, lanes: int) -> None:
    with threads(2):
        check(case, torch.float32, lanes)


@LANES
def test_two_thousand_steps(lanes: int) -> None:
    check(LONG, torch.float32, lanes)


def test_more_steps_than_sixteen_bits_hold() -> None:
    # A reset before every 64th step makes the reference short: the pieces are its batch.
    case, steps = VERY_LONG, 64
    pieces = case.T // steps
    starts = torch.arange(case.T)[:, None] % steps == 0
    starts[0] = False

    def ours(case: Case, made: dict[str, Any]) -> dict[str, Tensor]:
        results = operator(case, made | {"reset": starts})
        return {name: results[name] for name in ("output", "h_n", "c_n")}

    def in_pieces(case: Case, made: dict[str, Any]) -> dict[str, Tensor]:
        x = made["input"].reshape(pieces, steps, case.D).transpose(0, 1)
        h0, c0 = (nn.functional.pad(made[k], (0, 0, 0, pieces - 1)) for k in ("h0", "c0"))
        output, h_n, c_n, _, _ = reference.lstm(x, h0, c0, made["weights"])
        whole = output.transpose(0, 1).reshape(case.T, 1, case.H)
        return {"output": whole, "h_n": h_n[:, -1:], "c_n": c_n[:, -1:]}

    paths = ("output", "h_n", "c_n")
    assert_all_close(
        run(ours, case, arguments(case, torch.float32), paths),
        run(in_pieces, case, arguments(case, F64), paths),
        run(in_pieces, case, arguments(case, torch.float32), paths),
    )


@LANES
@pytest.mark.parametrize("case", [EVERYTHING, replace(EVERYTHING, L=1, dropout=False)], ids=str)
def test_inference_keeps_nothing_and_gives_the_same(case: Case, lanes: int) -> None:
    made = arguments(case, torch.float32, lanes)
    saved, bare = call(case, made), call(case, made, save=False)
    for kept, lean in zip(saved[:3], bare[:3], strict=True):
        assert torch.equal(kept, lean)
    for kept, lean in zip(saved[3:], bare[3:], strict=True):
        assert lean.shape[0] == 0 and lean.shape[1:] == kept.shape[1:]


@LANES
def test_masks_of_the_time_lane_alone(lanes: int) -> None:
    case = Case(T=5, N=3, D=5, H=7, L=3, dropout=True)

    def made(dtype: torch.dtype) -> dict[str, Any]:
        built = arguments(case, dtype, lanes)
        return built | {"masks": built["masks"][: case.L - 1]}

    assert_all_close(
        run(operator, case, made(torch.float32), names(lanes)),
        run(oracle, case, made(F64), names(lanes)),
        run(oracle, case, made(torch.float32), names(lanes)),
    )


@LANES
@pytest.mark.parametrize("scale", [30.0, 1e4])
def test_saturated_gates(lanes: int, scale: float) -> None:
    case = Case(T=5, N=3, D=5, H=19, L=2, peephole=True)

    def made(dtype: torch.dtype) -> dict[str, Any]:
        built = arguments(case, dtype, lanes)
        return built | {"input": built["input"] * scale, "c0": built["c0"] * scale}

    assert_all_close(
        run(operator, case, made(torch.float32), names(lanes)),
        run(oracle, case, made(F64), names(lanes)),
        run(oracle, case, made(torch.float32), names(lanes)),
    )


def spread(t: Tensor) -> Tensor:
    """The same values as every second column of a wider, transposed tensor."""
    wide = torch.full((*t.shape[:-1], 2 * t.shape[-1] + 1), torch.nan, dtype=t.dtype)
    wide[..., 1::2] = t
    return wide.transpose(0, -1).contiguous().transpose(0, -1)[..., 1::2]


@LANES
def test_strided_arguments(lanes: int) -> None:
    case = replace(EVERYTHING, packed=False)
    made = arguments(case, torch.float32, lanes)
    strided: dict[str, Any] = {}
    for name, value in made.items():
        if isinstance(value, list):
            strided[name] = [spread(w) for w in value]
        elif name == "reset":
            strided[name] = value.t().contiguous().t()
        else:
            strided[name] = None if value is None else spread(value)
    assert not any(leaf.is_contiguous() for leaf in leaves(strided).values())
    plain = run(operator, case, made, names(lanes))
    for name, value in run(operator, case, strided, names(lanes)).items():
        assert torch.equal(value, plain[name]), name


@LANES
def test_arguments_that_lie_in_the_middle_of_a_buffer(lanes: int) -> None:
    case = replace(EVERYTHING, packed=False)
    made = arguments(case, torch.float32, lanes)

    def inside(t: Tensor) -> Tensor:
        return torch.cat([torch.full_like(t[:1], 9), t]).detach()[1:]

    moved = {
        name: [inside(t) for t in value] if isinstance(value, list) else inside(value)
        for name, value in made.items()
        if value is not None
    }
    assert all(leaf.is_contiguous() and leaf.storage_offset() for leaf in leaves(moved).values())
    plain = run(operator, case, made, names(lanes))
    for name, value in run(operator, case, made | moved, names(lanes)).items():
        assert torch.equal(value, plain[name]), name


@LANES
def test_broadcast_arguments(lanes: int) -> None:
    case = Case(T=5, N=3, D=5, H=7, L=2, dropout=True)
    made = arguments(case, torch.float32, lanes)
    states = {name: made[name][:, :1].expand(-1, case.N, -1) for name in ("h0", "c0")}
    masks = [mask[:1].expand(case.T, -1, -1) for mask in made["masks"]]  # locked dropout
    expanded = call(case, made | states | {"masks": masks})
    copies = {name: state.contiguous() for name, state in states.items()}
    same = call(case, made | copies | {"masks": [mask.contiguous() for mask in masks]})
    assert all(torch.equal(a, b) for a, b in zip(expanded, same, strict=True))


def test_one_nn_lstm_module_is_the_same_operator() -> None:
    torch.manual_seed(3)
    module = nn.LSTM(5, 7, 2, bidirectional=True)
    x = torch.randn(6, 3, 5)
    case = Case(T=6, N=3, D=5, H=7, L=2, bidirectional=True)
    zeros = torch.zeros(4, 3, 7)
    output = call(
        case,
        {
            "input": x,
            "h0": zeros,
            "c0": zeros,
            "weights": list(module.parameters()),
            "masks": [],
            "batch_sizes": None,
            "reset": None,
        },
    )[0]
    exact = module.double()(x.double())[0]
    plain = module.float()(x)[0]
    assert_all_close({"y": output}, {"y": exact}, {"y": plain})
