# SPDX-License-Identifier: Apache-2.0
"""The launch plan: never more than the device has, never a shape without one, the same every time.

Tables over real devices and shapes; nothing here needs a GPU.
"""

import itertools
from collections.abc import Iterator

import pytest
import torch

from ltlstm_kernels.plan import DeviceFacts, Plan, Shape, TimeLoop, assumed_facts, make_plan

A100 = DeviceFacts(80, 108, 166_912, 65_536, (108, 0, 0, 0, 0))
H100 = assumed_facts(90, 132, 232_448, 65_536)
H100_PCIE = assumed_facts(90, 114, 232_448, 65_536)
A10 = DeviceFacts(86, 72, 101_376, 65_536, (72, 0, 0, 0, 0))
SLICE = assumed_facts(90, 16, 232_448, 65_536)  # of an H100 under MIG
DEVICES = {"A100": A100, "H100": H100, "H100 PCIe": H100_PCIE, "A10": A10, "MIG": SLICE}

DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
HIDDEN = (1, 7, 8, 9, 31, 64, 65, 100, 128, 129, 160, 192, 255, 256, 257, 320, 384, 500, 512)
HIDDEN += (513, 640, 768, 1000, 1024, 1025, 1500, 2048, 2049, 3000, 4096)
BATCH = (1, 2, 7, 8, 9, 16, 20, 33, 64, 65, 128, 200, 256, 511, 512)
COLUMNS = (8, 16, 32, 64)
PERSISTENT = ("block", "cluster", "grid")


def shapes() -> Iterator[Shape]:
    for H, N, training in itertools.product(HIDDEN, BATCH, (False, True)):
        yield Shape(200, N, H, H, training=training)
    for H, N in itertools.product(HIDDEN[3:], (1, 16, 65)):
        yield Shape(200, N, H, (H + 1) // 2, training=True)
        yield Shape(200, N, H, H, directions=2, training=True)
        yield Shape(200, N, H, H, L=6, training=True, trajectory=True)
        yield Shape(1, N, H, H, L=6)
        yield Shape(500, N, H, H, L=6)


def loops(plan: Plan, regimes: tuple[str, ...] = PERSISTENT) -> list[TimeLoop]:
    return [loop for loop in (plan.forward, plan.backward) if loop.regime in regimes]


def resident(loop: TimeLoop, device: DeviceFacts) -> int:
    """How many groups the device holds at once."""
    if loop.regime == "cluster":
        return device.clusters[loop.blocks.bit_length() - 1]
    return device.sms // loop.blocks


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", DEVICES)
def test_no_plan_asks_for_more_than_the_device_has(name: str, dtype: torch.dtype) -> None:
    device = DEVICES[name]
    for shape in shapes():
        plan = make_plan(shape, dtype, device)
        for loop in loops(plan):
            assert 0 < loop.shared_bytes <= device.shared_per_block, shape
            assert loop.threads * loop.registers <= device.registers_per_sm, shape
            assert loop.threads == 32 * loop.warps <= loop.max_threads <= 512, shape
            assert loop.registers <= 255
            assert resident(loop, device) > 0, shape
            if loop.regime == "grid":  # all blocks of a launch wait for each other
                blocks = loop.blocks * loop.groups * shape.directions
                assert blocks <= device.sms, shape
            else:
                assert loop.passes == 1
            if loop.regime == "block":
                assert loop.blocks == 1
        lanes = plan.lanes
        assert 0 <= lanes.time_sms <= device.sms
        # What persists beside each other is resident together, or would wait for ever.
        recurrences = 1 if shape.trajectory else lanes.at_once
        assert recurrences * lanes.time_sms + lanes.layer_sms <= device.sms
        if recurrences > 1:
            for loop in loops(plan):
                assert resident(loop, device) >= recurrences * loop.groups, shape


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", DEVICES)
def test_every_shape_has_a_plan_that_covers_it(name: str, dtype: torch.dtype) -> None:
    for shape in shapes():
        plan = make_plan(shape, dtype, DEVICES[name])
        regimes = [plan.forward.regime, plan.backward.regime]
        ours = 0 if dtype == torch.float64 else 1 + shape.training
        assert set(regimes[:ours]) <= {*PERSISTENT, "streamed"}, shape
        assert set(regimes[ours:]) <= {"aten"}, shape
        for loop in loops(plan, ("streamed",)):
            assert loop.us > 0 and loop.groups == loop.passes == 1
            assert 0 < loop.blocks <= DEVICES[name].sms
        for loop in loops(plan):
            assert loop.units % 8 == 0 and loop.columns in COLUMNS
            assert (loop.blocks - 1) * loop.units < shape.H <= loop.blocks * loop.units, shape
            assert loop.passes * loop.groups * loop.columns >= shape.N, shape
            assert (loop.groups - 1) * loop.columns < shape.N, shape
            assert (loop.projected > 0) == (shape.P != shape.H)
            assert loop.projected * loop.blocks >= (shape.P if loop.projected else 0), shape
            assert loop.us > 0
            assert loop.warps % loop.k_splits == 0
        lanes = plan.lanes
        assert lanes.overlap == (lanes.at_once > 1) and lanes.at_once <= 4
        assert 1 <= lanes.chunk <= shape.T and (lanes.overlap or lanes.chunk == shape.T)
        assert lanes.chunk == shape.T or shape.directions == 1


def test_small_and_usual_sizes_have_a_persistent_kernel() -> None:
    for device, dtype in itertools.product((A100, H100), DTYPES[:3]):
        for H, N in itertools.product((h for h in HIDDEN if 2 <= h <= 512), BATCH):
            for P in {H, H // 2, 1}:
                shape = Shape(200, N, H, P, training=True)
                plan = make_plan(shape, dtype, device, regimes=PERSISTENT)
                assert len(loops(plan)) == 2, (H, P, N, dtype, plan.reason)


def test_the_same_plan_every_time() -> None:
    for shape in itertools.islice(shapes(), 0, None, 17):
        first = make_plan(shape, torch.bfloat16, H100)
        make_plan.cache_clear()
        assert make_plan(shape, torch.bfloat16, H100) == first


# The table of floors: forward regime on an H100 or H200, and on an A100.
NAMED = [(64, "block", "block"), (256, "cluster", "grid"), (512, "cluster", "grid")]
NAMED += [(1024, "grid", "grid")]


@pytest.mark.parametrize(("H", "hopper", "ampere"), NAMED)
@pytest.mark.parametrize("N", [1, 16, 64])
@pytest.mark.parametrize("dtype", DTYPES[:2], ids=str)
def test_the_regimes_of_the_design(
    H: int, hopper: str, ampere: str, N: int, dtype: torch.dtype
) -> None:
    shape = Shape(512, N, H, H, training=True)
    assert make_plan(shape, dtype, H100).forward.regime == hopper
    assert make_plan(shape, dtype, A100).forward.regime == ampere


def test_weights_in_registers_reach_further() -> None:
    """W_hh of 2048 units is more than the shared memory of all SMs of an H100."""
    for N in (1, 16, 64):
        shape = Shape(512, N, 2048, 2048, training=True)
        plan = make_plan(shape, torch.bfloat16, H100, regimes=PERSISTENT)
        for loop, weights in ((plan.forward, 64 * 2048), (plan.backward, 16 * 4 * 2048)):
            assert loop.regime == "grid" and loop.held > 0
            assert loop.shared_bytes < 2 * weights  # of a block: its rows, all of K
        assert plan.reason.count("weights in registers too") == 2


def test_no_model_is_below_the_floor_of_its_exchange() -> None:
    for H, N in itertools.product((64, 256, 512, 1024), (1, 16, 64, 128)):
        for regime, hop in (("block", 0.03), ("cluster", 0.2), ("grid", 0.8)):
            loop = make_plan(Shape(512, N, H, H), torch.bfloat16, H100, regimes=(regime,)).forward
            assert loop.regime == "aten" or hop < loop.us < 100


@pytest.mark.parametrize("regime", [*PERSISTENT, "streamed"])
@pytest.mark.parametrize("training", [False, True])
def test_more_work_takes_no_less_time(regime: str, training: bool) -> None:
    """Within a regime: the model of more batch rows, of more units."""

    def us(N: int, H: int) -> float:
        shape = Shape(200, N, H, H, training=training)
        plan = make_plan(shape, torch.bfloat16, H100, regimes=(regime,))
        return sum(loop.us for loop in loops(plan, (regime,))) or float("inf")

    widths = (64, 128, 256, 512, 768, 1024)
    for H in widths:
        times = [us(N, H) for N in (1, 8, 16, 32, 64, 128, 256, 512)]
        assert times == sorted(times), (H, times)
    for N in (1, 16, 64):
        times = [us(N, H) for H in widths]
        assert times == sorted(times), (N, times)


def test_a_slower_device_is_modelled_slower() -> None:
    for H, N in itertools.product((64, 128, 512, 1024), (1, 16, 64)):
        shape = Shape(200, N, H, H, training=True)
        fast, slow = (make_plan(shape, torch.float16, device) for device in (H100, A100))
        assert fast.forward.us < slow.forward.us and fast.backward.us < slow.backward.us


def test_the_choice_can_be_narrowed() -> None:
    shape = Shape(9, 5, 64, 64, training=True)
    for regime in (*PERSISTENT, "streamed"):
        plan = make_plan(shape, torch.bfloat16, H100, regimes=(regime,))
        assert plan.forward.regime == plan.backward.regime == regime
        assert plan.reason.count("not asked for") == 6
    plan = make_plan(shape, torch.bfloat16, H100, regimes=("cluster",), blocks=4, columns=16)
    assert (plan.forward.blocks, plan.forward.columns) == (4, 16)
    plan = make_plan(shape, torch.bfloat16, H100, blocks=3, columns=9)
    assert plan.forward.regime == "aten" and "not streamed: it has no groups" in plan.reason


def test_every_regime_that_was_not_taken_has_a_reason() -> None:
    reason = make_plan(Shape(512, 16, 1024, 1024, training=True), torch.bfloat16, H100).reason
    forward, backward, lanes = reason.splitlines()
    assert forward.startswith("forward: grid, 128 blocks of 8 units, ")
    assert backward.startswith("backward: grid, ")
    assert "; not cluster: needs " in forward and "the device has 232,448" in forward
    assert "; not block: a block has no threads for so many units" in forward
    assert lanes.startswith("lanes: ")
    on_ampere = make_plan(Shape(512, 16, 512, 512), torch.bfloat16, A100).reason
    assert "not cluster: compute capability 8.0 has no clusters" in on_ampere
    double = make_plan(Shape(512, 16, 512, 512), torch.float64, A100).reason
    assert double.startswith("forward: aten; not block: no kernel computes float64; ")


@pytest.mark.parametrize("huge", [{"T": 2**31}, {"N": 2**40}, {"H": 2**40, "P": 2**40}], ids=str)
def test_huge_sizes_have_a_plan_too(huge: dict[str, int]) -> None:
    plan = make_plan(Shape(5, 3, 64, 64, training=True)._replace(**huge), torch.float32, H100)
    assert plan.forward.regime == plan.backward.regime == "aten"
    assert "more than a launch can count" in plan.reason


def test_the_largest_batch_of_one_launch() -> None:
    plan = make_plan(Shape(5, 2**31 - 1, 64, 64), torch.bfloat16, H100)
    assert plan.forward.regime != "aten"
    assert plan.forward.groups * plan.forward.columns >= 2**31 - 1


GOOD = Shape(5, 3, 8, 8)


@pytest.mark.parametrize(
    ("shape", "facts", "message"),
    [
        (GOOD._replace(T=0), H100, "plan: T must be positive, got 0"),
        (GOOD._replace(N=-1), H100, "plan: N must be positive, got -1"),
        (GOOD._replace(H=0, P=0), H100, "plan: H must be positive, got 0"),
        (GOOD._replace(P=9), H100, "plan: P must be less than H with a projection, got 9"),
        (GOOD._replace(L=0), H100, "plan: L must be positive, got 0"),
        (GOOD._replace(directions=3), H100, "plan: directions must be 1 or 2, got 3"),
        (GOOD, H100._replace(capability=70), "plan: capability must be at least 80, got 70"),
        (GOOD, H100._replace(sms=0), "plan: sms must be positive, got 0"),
        (GOOD, H100._replace(shared_per_block=0), "plan: shared_per_block must be positive, got 0"),
        (GOOD, H100._replace(registers_per_sm=0), "plan: registers_per_sm must be positive, got 0"),
        (GOOD, H100._replace(clusters=(1, 1, 1, 1, -1)), "clusters must not be negative, got -1"),
    ],
)
def test_what_cannot_be_is_refused(shape: Shape, facts: DeviceFacts, message: str) -> None:
    with pytest.raises(ValueError) as error:
        make_plan(shape, torch.bfloat16, facts)
    assert str(error.value).endswith(message)


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(
        ValueError, match="regimes must be one of block, cluster, grid, streamed, got 'aten'"
    ):
        make_plan(GOOD, torch.bfloat16, H100, regimes=("aten",))
    with pytest.raises(ValueError, match="plan: dtype must be one of .*, got 'int8'"):
        make_plan(GOOD, torch.int8, H100)
    with pytest.raises(ValueError, match="plan: blocks must not be negative, got -1"):
        make_plan(GOOD, torch.bfloat16, H100, blocks=-1)


def test_numbers_beyond_what_is_passed_on_are_refused() -> None:
    for name, value in (("T", 2**63), ("N", -(2**63) - 1), ("L", 2**80)):
        with pytest.raises(ValueError, match=f"plan: {name} must fit 64 bits, got {value}"):
            make_plan(GOOD._replace(**{name: value}), torch.bfloat16, H100)
    for name in ("sms", "shared_per_block", "registers_per_sm", "capability"):
        with pytest.raises(ValueError, match=f"plan: {name} must fit 32 bits, got {2**31}"):
            make_plan(GOOD, torch.bfloat16, H100._replace(**{name: 2**31}))
    with pytest.raises(ValueError, match="plan: clusters must fit 32 bits"):
        make_plan(GOOD, torch.bfloat16, H100._replace(clusters=(2**32 + 1, 0, 0, 0, 0)))
    with pytest.raises(TypeError):
        make_plan(GOOD._replace(H=8.0), torch.bfloat16, H100)
