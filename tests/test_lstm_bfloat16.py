# SPDX-License-Identifier: Apache-2.0
"""Inference in bfloat16 on the CPU, from the weights as they are, against float64.

By the two-times rule, with plain torch in bfloat16 beside it; its floor is wide in bfloat16, so
results of many numbers get none: there an error is held against plain torch's alone. What asks for
gradients or for the states of every step is computed in float32.
"""

import copy
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch.profiler import ProfilerActivity, profile

import ltlstm
from cases import EVERYTHING, Case, arguments
from child import instruction_sets, run_alone
from ltlstm_kernels import ops
from module_results import flat, random_state, to
from operators import F64, Named, assert_identical, call, oracle, raw, threads
from test_operators_contract import refused
from tolerance import assert_close, error

BF16 = torch.bfloat16
MANY = 500  # numbers, from which on no floor is allowed
NAMES = ("output", "h_n", "c_n")

ALL = replace(EVERYTHING, dropout=False)
BASE = Case(T=3, N=3, D=5, H=34, L=2)
CASES = [
    Case(T=1, N=1, D=1, H=2),
    Case(T=4, N=0, D=3, H=6, L=2),
    BASE,
    replace(BASE, T=1, N=1, L=3),
    replace(BASE, T=200, L=3),
    replace(BASE, T=41, bidirectional=True, packed=True, reset=True),
    replace(BASE, bias=False),
    replace(BASE, peephole=True),
    replace(BASE, bidirectional=True),
    replace(BASE, packed=True, peephole=True),
    replace(BASE, reset=True),
    # Not in pairs: float32 inside.
    replace(BASE, H=35),
    replace(BASE, P=24, reset=True),
    ALL,
    replace(ALL, P=0, H=66),
    # Large enough for threads to share the units, or a batch of several tiles.
    Case(T=9, N=1, D=33, H=322, L=2),
    Case(T=5, N=2, D=65, H=322, peephole=True, reset=True),
    Case(T=3, N=13, D=129, H=640, packed=True),
]


def in_type(made: dict[str, Any], dtype: torch.dtype) -> dict[str, Any]:
    def cast(value: Any) -> Any:
        return [to(v, dtype) for v in value] if isinstance(value, list) else to(value, dtype)

    return {name: cast(value) for name, value in made.items()}


def check_forward(actual: Named, truth: Named, plain: Named) -> None:
    assert actual.keys() == truth.keys() == plain.keys()
    for name, value in actual.items():
        assert value.dtype == BF16
        assert_close(value, truth[name], plain[name], name)
        if value.numel() >= MANY:
            assert error(value, truth[name]) <= 2 * error(plain[name], truth[name]), name


def infer(case: Case, made: dict[str, Any]) -> Named:
    with torch.no_grad():
        return dict(zip(NAMES, call(case, made, save=False)[:3], strict=True))


def expected(case: Case, made: dict[str, Any]) -> Named:
    with torch.no_grad():
        found = oracle(case, made)
    return {name: found[name] for name in NAMES}


@cache
def references(case: Case, seed: int) -> tuple[Named, Named]:
    """The truth, and plain torch in bfloat16."""
    made = arguments(case, BF16, seed=seed)
    with threads(1):
        return expected(case, in_type(made, F64)), expected(case, made)


def check(case: Case, seed: int = 0) -> None:
    check_forward(infer(case, arguments(case, BF16, seed=seed)), *references(case, seed))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_values(case: Case, count: int) -> None:
    with threads(count):
        for seed in range(2):
            check(case, seed)


@pytest.mark.parametrize("count", [1, 2])
def test_every_small_batch(count: int) -> None:
    with threads(count):
        for N in range(1, 18):
            check(replace(BASE, N=N, H=2 * N + 30, D=N), seed=N)


def each_case_on(isa: str) -> None:
    halves, wide = Case(T=3, N=1, D=2, H=64), 4 * 64 * 64
    made = arguments(halves, BF16)
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        call(halves, made, save=False)
    sizes = {event.self_cpu_memory_usage for event in seen.events()}
    bytes_of_a_weight = {2: wide * 2 in sizes, 4: wide * 4 in sizes}
    assert bytes_of_a_weight == {2: isa == "avx512bf16", 4: isa != "avx512bf16"}, sorted(sizes)
    for case in CASES:
        print(isa, case, flush=True)
        check(case)


@pytest.mark.parametrize("isa", instruction_sets())
def test_each_instruction_set(isa: str) -> None:
    run_alone(each_case_on, isa, LTLSTM_CPU_ISA=isa)


def test_weights_at_an_odd_address() -> None:
    made = arguments(BASE, BF16)

    def moved(t: Tensor) -> Tensor:
        return torch.cat([t.new_zeros(1), t.flatten()])[1:].view(t.shape)

    shifted = made | {name: moved(made[name]) for name in ("input", "h0", "c0")}
    shifted["weights"] = [moved(w) for w in made["weights"]]
    assert shifted["weights"][1].data_ptr() % 4 == 2
    assert_identical(infer(BASE, shifted), infer(BASE, made))


@pytest.mark.parametrize("case", [BASE, CASES[-2], ALL], ids=str)
def test_bit_equal_from_run_to_run_and_arguments_not_written(case: Case) -> None:
    made = arguments(case, BF16)
    for count in (1, 2):
        with threads(count):
            assert_identical(infer(case, made), infer(case, made))
    for name, fresh in arguments(case, BF16).items():
        given = made[name] if isinstance(fresh, list) else [made[name]]
        fresh = fresh if isinstance(fresh, list) else [fresh]
        pairs = zip(given, fresh, strict=True)
        assert all(torch.equal(a, b) for a, b in pairs if b is not None), name


@pytest.mark.parametrize("where", ["input", "h0", "c0"])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_bad_value_stays_in_its_row(bad: float, where: str) -> None:
    case, row = replace(BASE, N=9, bidirectional=True), 4
    clean, made = infer(case, arguments(case, BF16)), arguments(case, BF16)
    made[where][-1, row, 0] = bad
    spoiled, others = infer(case, made), [n for n in range(case.N) if n != row]
    for name, value in expected(case, made).items():
        assert torch.equal(spoiled[name][:, others], clean[name][:, others]), name
        assert torch.equal(spoiled[name].isnan(), value.isnan()), name


def test_a_reset_clears_a_bad_state() -> None:
    case = replace(BASE, reset=True)
    made = arguments(case, BF16)
    made["h0"][:, 2], made["c0"][:, 2], made["reset"][0, 2] = torch.nan, torch.inf, True
    assert all(value.isfinite().all() for value in infer(case, made).values())


LENGTHS = torch.tensor([7, 2, 5])


def call_in(form: str, module: nn.Module, x: Tensor, hx: Any) -> Named:
    """The results that nn.LSTM gives for packed input, padded like ours."""
    if form == "lengths" and isinstance(module, nn.LSTM):
        packed = pack_padded_sequence(x, LENGTHS, enforce_sorted=False)
        output, states = module(packed, hx)
        return flat((nn.utils.rnn.pad_packed_sequence(output, total_length=len(x))[0], states))
    if form == "lengths":
        return flat(module(x, hx, lengths=LENGTHS)[:2])
    if form == "packed":
        return flat(module(pack_padded_sequence(x, LENGTHS, enforce_sorted=False), hx))
    return flat(module(x.transpose(0, 1) if form == "batch_first" else x, hx))


@pytest.mark.parametrize("with_hx", [True, False])
@pytest.mark.parametrize("form", ["padded", "batch_first", "lengths", "packed"])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True}, {"bias": False}, {"proj_size": 8}]
)
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_a_module_as_nn_lstm(options: dict[str, Any], form: str, with_hx: bool) -> None:
    theirs = nn.LSTM(6, 20, 2, batch_first=form == "batch_first", **options).to(BF16)
    ours = ltlstm.LSTM(6, 20, 2, batch_first=form == "batch_first", **options, dtype=BF16)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(7, 3, 6).to(BF16)
    hx = to(random_state(theirs, 3), BF16) if with_hx else None
    with torch.no_grad():
        found, plain = call_in(form, ours, x, hx), call_in(form, theirs, x, hx)
        truth = call_in(form, copy.deepcopy(theirs).double(), x.double(), to(hx, F64))
    check_forward(found, truth, plain)


def test_gradients_and_states_are_computed_in_float32() -> None:
    module = ltlstm.LSTM(6, 20, 2, dtype=BF16)
    x = torch.randn(5, 3, 6).to(BF16)
    wide = flat(copy.deepcopy(module).float()(x.float()))
    rounded = {name: value.to(BF16) for name, value in wide.items()}
    assert_identical(flat(module(x)), rounded)
    with torch.no_grad():
        assert_identical(flat(module(x, return_states=True)[:2]), rounded)
        bare = module(x)[0]
    assert not torch.equal(bare, rounded["out.0"]) or "avx512bf16" not in instruction_sets()
    assert (
        "computed in torch.float32, returned in torch.bfloat16" in ltlstm.explain(module, x).notes
    )
    with torch.no_grad():
        assert ltlstm.explain(module, x).notes == []


def test_dropout_in_training_is_computed_in_float32() -> None:
    module = ltlstm.LSTM(6, 20, 2, dropout=0.5, dtype=BF16)
    x = torch.randn(5, 3, 6).to(BF16)
    with torch.no_grad():
        torch.manual_seed(3)
        half = module(x)[0]
        torch.manual_seed(3)
        wide = copy.deepcopy(module).float()(x.float())[0]
    assert torch.equal(half, wide.to(BF16))


def test_compile_and_export() -> None:
    module = ltlstm.LSTM(6, 20, 2, bidirectional=True, dtype=BF16).eval()
    x, hx = torch.randn(5, 3, 6).to(BF16), to(random_state(module, 3), BF16)
    with torch.no_grad():
        expected = flat(module(x, hx))
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        assert_identical(flat(compiled(x, hx)), expected)
        exported = torch.export.export(module, (x, hx))
        assert_identical(flat(exported.module()(x, hx)), expected)


@pytest.mark.parametrize("case", [BASE, ALL], ids=str)
def test_opcheck(case: Case) -> None:
    given = tuple(raw(arguments(case, BF16)).values())
    op = torch.ops.ltlstm.lstm_stack_forward.default
    results = torch.library.opcheck(op, given, {**case.flags, "save": False})
    assert set(results.values()) == {"SUCCESS"}


def test_the_operator_refuses() -> None:
    forward, made = ops.lstm_stack_forward, arguments(replace(BASE, dropout=True), BF16)
    refused(forward, "masks", **made, **BASE.flags, save=False)
    made["masks"] = []
    refused(forward, "input", **made, **BASE.flags, save=True)
    for name in ("input", "h0", "c0"):
        refused(forward, "", **(made | {name: made[name].float()}), **BASE.flags, save=False)
    mixed = [made["weights"][0], *(w.float() for w in made["weights"][1:])]
    refused(forward, "weights[1]", **(made | {"weights": mixed}), **BASE.flags, save=False)
    lanes = arguments(BASE, BF16, lanes=2)
    refused(ops.lt_lstm_forward, "input", **lanes, **BASE.flags, save=False)
