# SPDX-License-Identifier: Apache-2.0
"""The stages of bench/gpu.sh under compute-sanitizer; as a program, what it watches.

torch's caching allocator is off there: an overrun into a neighbouring tensor would be legal to it.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import torch
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from bench.gpu import programs
from bench.gpu.target import Skipped, Target, environment

FOUND = 9  # exit status where the sanitizer has found something
# Racecheck watches shared memory, and only initcheck has to see what torch's kernels write.
ONLY_OURS = ("--kernel-name", "kernel_substring=ltlstm")
OPTIONS = {tool: ONLY_OURS for tool in ("memcheck", "racecheck", "synccheck")} | {"initcheck": ()}


def small(device: str, backend: str, widths: Sequence[int]) -> None:
    """Every regime that these widths have, and the streamed one: both passes, ragged rows."""
    for H in widths:
        for regime in ("", "streamed"):
            with mock.patch.dict(os.environ, LTLSTM_CUDA_REGIME=regime):
                m = ltlstm.LSTM(H, H, device=device, dtype=torch.bfloat16, backend=backend)
                x = torch.randn(4, 5, H).to(device, torch.bfloat16).requires_grad_()
                m(x)[0].float().sum().backward()
                packed = pack_padded_sequence(x, [4, 4, 3, 2, 1])
                m(packed)[0].data.float().sum().backward()
            print(f"ran H={H} {regime or 'as planned'}", flush=True)


def _sanitizer() -> str:
    found = shutil.which("compute-sanitizer")
    if found is None:
        from tests import cuda_build  # setup.py's rule of where the toolkit is

        home = Path(cuda_build.HOME or "/usr/local/cuda")
        places = (home / "bin", home / "compute-sanitizer")
        found = next((str(p / "compute-sanitizer") for p in places if p.exists()), None)
    if found is None or not Path(found).exists():
        raise Skipped("there is no compute-sanitizer")
    return found


def _stage(tool: str) -> Callable[[Target], None]:
    def run(target: Target) -> None:
        target.need_device()
        if target.emulated:
            small(target.device, target.backend, (16,))
            target.write({"group": "sanitize", "tool": tool, "said": "a dry run, without it"})
            return
        command = [_sanitizer(), "--tool", tool, "--error-exitcode", str(FOUND), *OPTIONS[tool]]
        command += [sys.executable, "-m", "bench.gpu.sanitize"]
        env = environment(target, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
        said: list[str] = []
        try:
            for line in programs.lines(command, target.left() - programs.MARGIN, **env):
                print(line, flush=True)
                said.append(line)
        finally:
            own = [line for line in said if line.startswith(("=========", "ran "))]
            target.write({"group": "sanitize", "tool": tool, "said": own[:20] + own[-5:]})

    return run


memcheck, racecheck, synccheck, initcheck = map(_stage, OPTIONS)

if __name__ == "__main__":
    small("cuda", "cuda", (72, 520))
