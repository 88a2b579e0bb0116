# SPDX-License-Identifier: Apache-2.0
"""What the compiler makes of the H-LSTM's Triton kernels, without a GPU: registers, spills, shared
memory and the instructions that the design counts on, of every form that the plan chooses."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import torch

from child import run_alone

# Multiprocessors, and bytes of shared memory that a program may have.
DEVICES = {80: (108, 166_912), 90: (132, 232_448)}
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
POINTERS = {
    "*fp32": ("c", "c0", "dh", "dc"), "*i32": ("columns", "counts", "steps", "arrivals"),
    "*i64": ("offsets",), "*u8": ("keep",),
}  # fmt: skip
ALIGNED = ("H", "K", "output_stride", "d_output_stride")  # at H = K = 512
SIZES = ("N", "J", "S", "T", "capacity")
EVERY_OPTION = ("REVERSE", "LEAKY", "BIAS", "DROPOUT", "RESET", "DEEP", "CELLS")
# A spill slot or two outside of the loops over blocks costs nothing that a step would notice.
SPILLED = 32


class Compiled(NamedTuple):
    name: str
    ptx: str
    spilled: int  # bytes stored
    registers: int
    shared: int
    units: int


def _compile(kernel: Any, plan: Any, dtype: torch.dtype, save: bool, capability: int) -> Compiled:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ltlstm_kernels.triton_plan import ROWS

    constants = {name: True for name in EVERY_OPTION} | {
        "SAVE": save, "SHARED": plan.shared, "BLOCK": plan.block, "DEPTH": plan.depth,
        "UNITS": plan.units, "ROWS": ROWS, "STAGES": plan.stages,
    }  # fmt: skip
    constants = {name: value for name, value in constants.items() if name in kernel.arg_names}
    types = {name: kind for kind, names in POINTERS.items() for name in names}
    types |= dict.fromkeys((*ALIGNED, *SIZES), "i32") | {"slope": "fp32"}
    types |= dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, f"*{TYPES[dtype]}") for name in kernel.arg_names}
    divisible = {
        (i,): [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(signature.items()) if kind[0] == "*" or name in ALIGNED
    }  # fmt: skip
    options = {"num_warps": plan.units, "launch_cooperative_grid": plan.shared}
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, divisible),
        target=GPUTarget("cuda", capability, 32), options=options,
    )  # fmt: skip
    spilled, registers = _resources(compiled.asm["ptx"], capability)
    return Compiled(
        f"{kernel.__name__} {TYPES[dtype]} {plan}", compiled.asm["ptx"], spilled, registers,
        compiled.metadata.shared, plan.units,
    )  # fmt: skip


def _resources(ptx: str, capability: int) -> tuple[int, int]:
    """Bytes of spill stores, registers."""
    from triton import knobs

    architecture = f"sm_{capability}" + "a" * (capability == 90)
    with TemporaryDirectory() as folder:
        source = Path(folder, "kernel.ptx")
        source.write_text(ptx)
        told = subprocess.run(
            [knobs.nvidia.ptxas.path, "-v", f"-arch={architecture}", source, "-o", f"{folder}/out"],
            capture_output=True, text=True, check=True,
        ).stderr  # fmt: skip
    spilled = re.search(r"(\d+) bytes spill stores", told)
    registers = re.search(r"Used (\d+) registers", told)
    assert spilled and registers, told
    return int(spilled[1]), int(registers[1])


def _forms(dtype: torch.dtype, capability: int, shared: bool) -> Iterator[Compiled]:
    from ltlstm_kernels.triton_backward import h_lstm_backward_kernel as backward
    from ltlstm_kernels.triton_forward import h_lstm_forward_kernel as forward
    from ltlstm_kernels.triton_plan import plan

    processors = DEVICES[capability][0]
    N = 16 if shared else 16 * processors
    for kernel, save in ((forward, True), (forward, False), (backward, True)):
        chosen = plan(N, 512, 512, dtype, save, processors)
        assert chosen.shared == shared
        yield _compile(kernel, chosen, dtype, save, capability)


def _check(capability: int, name: str, shared: bool) -> None:
    dtype = getattr(torch, name)
    for form in _forms(dtype, capability, shared):
        assert form.spilled <= (SPILLED if dtype == torch.float32 else 0), form
        assert form.registers * 32 * form.units <= 65_536, form
        assert form.shared <= DEVICES[capability][1], form
        ptx = form.ptx
        # Products on tensor cores, from blocks that come 16 bytes at a time while others are used.
        assert ("mma.sync" in ptx) == (dtype != torch.float32), form
        assert re.search(r"cp\.async\.cg\.shared\.global \[[^]]*\], \[[^]]*\], 0x10", ptx), form
        # The barrier of those that share: everything before it is released, and then acquired; one
        # that waits in vain stops the kernel.
        for instruction in (
            r"atom\.global\.gpu\.release\.add", r"ld\.global\.gpu\.acquire", r"\btrap;"
        ):  # fmt: skip
            assert bool(re.search(instruction, ptx)) == shared, form


@pytest.mark.parametrize(
    "capability, dtype, shared",
    [
        (80, "bfloat16", False), (80, "bfloat16", True), (90, "bfloat16", False),
        (90, "bfloat16", True), (80, "float32", True), (90, "float32", False),
        (90, "float16", True),
    ],
)  # fmt: skip
def test_resources_and_instructions(
    capability: int, dtype: str, shared: bool, tmp_path: Path
) -> None:
    environment = {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    run_alone(_check, capability, dtype, shared, **environment)


def _run_time_sizes() -> None:
    from triton import JITFunction

    from ltlstm_kernels.triton_backward import h_lstm_backward_kernel as backward
    from ltlstm_kernels.triton_forward import h_lstm_forward_kernel as forward

    for kernel in (forward, backward):
        assert type(kernel) is JITFunction  # no autotuner around it
        free = {p.name for p in kernel.params if not p.is_constexpr and not p.do_not_specialize}
        assert not free & {"N", "T", "S"}


def test_no_sequence_length_or_batch_size_compiles_anew() -> None:
    run_alone(_run_time_sizes, TRITON_INTERPRET="0")
