# SPDX-License-Identifier: Apache-2.0
"""What nvcc makes of csrc/cuda: no spills, within the plan's registers and shared memory, and the
instructions that the design rests on. Needs nvcc, no GPU."""

import itertools
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import cuda_build
from cuda_build import Kernel, Object
from ltlstm_kernels.plan import Shape, TimeLoop, make_plan
from test_plan import A100, H100, PERSISTENT

pytestmark = pytest.mark.skipif(cuda_build.HOME is None, reason=cuda_build.NO_NVCC)

SCALARS = {"__nv_bfloat16": torch.bfloat16, "__half": torch.float16, "float": torch.float32}
DEVICES = {"sm_80": A100, "sm_90a": H100}


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> list[Object]:
    return cuda_build.objects(tmp_path_factory.mktemp("cuda"))


class Kind:
    """Of a time-LSTM kernel, what its template arguments say."""

    def __init__(self, name: str) -> None:
        pattern = (
            r"(Forward|Backward)Kind<(\w+), (Block|Cluster|Grid)Exchange, (\d+), \(Variant\)(\d)>"
        )
        found = re.search(pattern, name)
        assert found is not None, f"no kernel of the time loop: {name}"
        self.backward = found[1] == "Backward"
        self.scalar, self.regime = found[2], found[3].lower()
        self.columns = 8 * int(found[4])
        self.variant = int(found[5])

    def key(self) -> tuple[object, ...]:
        return self.regime, self.backward, self.scalar, self.columns, self.variant


def time_loops(objects: list[Object]) -> list[Kernel]:
    found = [k for o in objects if "time_lstm" in o.source for k in o.kernels()]
    assert found
    return found


def test_nothing_spills(objects: list[Object]) -> None:
    kernels = [kernel for compiled in objects for kernel in compiled.kernels()]
    assert kernels
    assert [kernel for kernel in kernels if kernel.stack or kernel.spilled] == []


def planned(dtype: torch.dtype, device: object) -> list[tuple[bool, TimeLoop]]:
    """Loops that the plan gives for many shapes, backward or not; each of its kind once."""
    found = {}
    widths = (8, 40, 64, 128, 200, 256, 384, 512, 768, 1024, 2048)
    for H, N in itertools.product(widths, (1, 9, 20, 40, 128, 512)):
        for P, regimes in itertools.product(
            {H, max(H // 2, 1)}, ((), ("block",), ("cluster",), ("grid",))
        ):
            for columns in (0, 8, 16, 32, 64):
                plan = make_plan(
                    Shape(64, N, H, P, training=True), dtype, device, regimes=regimes,
                    columns=columns,
                )  # fmt: skip
                for backward, loop in ((False, plan.forward), (True, plan.backward)):
                    if loop.regime in PERSISTENT:
                        key = (backward, *loop[:-1])
                        found[key] = (backward, loop)
    return list(found.values())


def key(scalar: str, backward: bool, loop: TimeLoop) -> tuple[object, ...]:
    """The kind of kernel that a loop runs on; of a Kind its own."""
    # As variant_of in csrc/time_loop.h.
    variant = 2 if loop.projected else 3 if loop.held else int(loop.k_splits > 1)
    return loop.regime, backward, scalar, loop.columns, variant


@pytest.mark.parametrize("arch", DEVICES)
def test_what_is_planned_is_compiled_within_its_registers(objects: list[Object], arch: str) -> None:
    device = DEVICES[arch]
    compiled = {Kind(k.name).key(): k for k in time_loops(objects) if k.arch == arch}
    for scalar, dtype in SCALARS.items():
        for backward, loop in planned(dtype, device):
            kernel = compiled[key(scalar, backward, loop)]
            assert kernel.registers <= loop.registers, (kernel, loop)
            assert loop.max_threads * loop.registers <= device.registers_per_sm
            assert kernel.static_shared == 0, kernel  # the plan counts all of it as dynamic


def test_what_is_compiled_is_planned(objects: list[Object]) -> None:
    """Where nothing narrows the choice: a kernel that no shape is given is not built."""
    chosen = set()
    widths = (8, 24, 29, 50, 120, 128, 160, 176, 232, 384, 456, 512, 1024)
    batches = (1, 9, 16, 48, 128, 256, 300, 1024, 4096, 10000)
    for H, N, device in itertools.product(widths, batches, DEVICES.values()):
        for P, (L, trajectory) in itertools.product({H, H // 2}, ((1, False), (4, True))):
            shape = Shape(200, N, H, P, L, training=True, trajectory=trajectory)
            for scalar, dtype in SCALARS.items():
                for training in (True, False):
                    plan = make_plan(shape._replace(training=training), dtype, device)
                    chosen.add(key(scalar, False, plan.forward))
                    chosen.add(key(scalar, True, plan.backward))
    compiled = {Kind(kernel.name).key() for kernel in time_loops(objects)}
    assert compiled - chosen == set()


PROGRAM = """
#include <cstdio>
#include <cstring>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include "cuda/time_lstm.h"
using namespace ltlstm;
int main() {
  int backward, regime, units, blocks, columns, splits, warps, projected, held;
  char scalar[32];
  while (scanf("%31s %d %d %d %d %d %d %d %d %d", scalar, &backward, &regime, &units, &blocks,
               &columns, &splits, &warps, &projected, &held) == 10) {
    TimeLoop loop{};
    loop.regime = Regime(regime);
    loop.units = units, loop.blocks = blocks, loop.columns = columns, loop.k_splits = splits;
    loop.warps = warps, loop.threads = 32 * warps, loop.projected = projected;
    loop.held = held;
    const auto bytes = [&](auto zero) {
      using T = decltype(zero);
      return backward ? cuda::shared_bytes_of<cuda::TimeLstmBackward<T>>(loop)
                      : cuda::shared_bytes_of<cuda::TimeLstmForward<T>>(loop);
    };
    const long long found = !strcmp(scalar, "float") ? bytes(0.f)
                            : !strcmp(scalar, "__half") ? bytes(__half()) : bytes(__nv_bfloat16());
    printf("%lld\\n", found);
  }
}
"""


def test_the_kernels_take_the_shared_memory_of_the_plan(
    objects: list[Object], tmp_path: Path
) -> None:
    """The kernels' own sum, asked on the host."""
    assert cuda_build.HOME is not None
    (tmp_path / "shared.cu").write_text(PROGRAM)
    program = tmp_path / "shared"
    linked = [str(o.path) for o in objects if "time_lstm" in o.source]
    subprocess.run(
        [f"{cuda_build.HOME}/bin/nvcc", "-std=c++17", f"-I{cuda_build.SETUP['CSRC']}",
         "-arch=sm_90a", str(tmp_path / "shared.cu"), *linked, "-o", str(program)],
        check=True,
    )  # fmt: skip
    asked = [
        (scalar, backward, loop)
        for scalar, dtype in SCALARS.items()
        for backward, loop in planned(dtype, H100)
    ]
    lines = [
        f"{scalar} {backward:d} {PERSISTENT.index(loop.regime)} {loop.units} {loop.blocks} "
        f"{loop.columns} {loop.k_splits} {loop.warps} {loop.projected} {loop.held}"
        for scalar, backward, loop in asked
    ]
    told = subprocess.check_output([str(program)], input="\n".join(lines), text=True).split()
    for (scalar, backward, loop), bytes_ in zip(asked, told, strict=True):
        assert int(bytes_) == loop.shared_bytes, (scalar, backward, loop)


def test_the_machine_code_is_what_the_design_rests_on(objects: list[Object]) -> None:
    tool = cuda_build.cuobjdump()
    if tool is None:
        pytest.skip("no cuobjdump here, neither of a toolkit nor of a triton wheel")
    # The older architecture by one example: a dump takes seconds.
    wanted = [o for o in objects if "time_lstm" in o.source and o.kernels()]
    dumps = [(o, "sm_90a") for o in wanted]
    dumps += [(o, "sm_80") for o in wanted if "forward_grid" in o.source]
    with ThreadPoolExecutor() as pool:
        codes = list(pool.map(lambda dump: dump[0].machine_code(tool, dump[1]), dumps))
    assert sum(map(len, codes)) > len(SCALARS) * len(dumps)
    for code in codes:
        for name, operations in code.items():
            check_instructions(Kind(name), name, operations)


PRODUCTS = {"__nv_bfloat16": r"HMMA\.16816\.F32\.BF16$", "__half": r"HMMA\.16816\.F32$"}
PRODUCTS["float"] = "FFMA"  # exact: no TF32


def check_instructions(kind: Kind, name: str, operations: set[str]) -> None:
    def has(pattern: str) -> bool:
        return any(re.match(pattern, operation) for operation in operations)

    assert has(PRODUCTS[kind.scalar]), name
    assert kind.scalar != "float" or not has("HMMA"), name
    assert has(r"LDSM|LDS\.128"), name  # 16 bytes of weights a lane
    assert not has("LDL|STL"), name  # local memory
    if kind.regime == "grid":
        assert has(r"LDG\.E\.128") and has(r"MEMBAR|ST\.E\.STRONG|STG\.E\.STRONG"), name
    if kind.regime == "cluster":
        assert has("STAS|UBLKCP") and has("SYNCS") and has("UCGABAR"), name


def test_pointwise_kernels_serve_newer_gpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no persistent kernel is compiled the streamed loop runs: its kernels are PTX too."""
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    plain = [source for source in cuda_build.SOURCES if "/time_lstm" not in source]
    assert "csrc/cuda/time_step.cu" in plain
    for source in plain:
        assert cuda_build.SETUP["architectures"](source) == ["8.0", "9.0+PTX"]
    assert cuda_build.SETUP["architectures"]("csrc/cuda/time_lstm.cu") == ["8.0", "9.0a"]


def test_newer_architectures_compile_too(tmp_path: Path) -> None:
    """To PTX: that no instruction belongs to one architecture alone."""
    assert cuda_build.HOME is not None
    if not cuda_build.knows("10.0"):
        pytest.skip("this nvcc does not know sm_100")
    (source,) = (name for name in cuda_build.SOURCES if name.endswith("forward_cluster.cu"))
    command = [f"{cuda_build.HOME}/bin/nvcc", "-std=c++17", f"-I{cuda_build.SETUP['CSRC']}"]
    ptx = tmp_path / "newer.ptx"
    command += ["-arch=compute_100", "-ptx", source, "-o", str(ptx)]
    subprocess.run(command, cwd=cuda_build.ROOT, check=True)
    assert ".target sm_100" in ptx.read_text()
