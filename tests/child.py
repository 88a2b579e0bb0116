# SPDX-License-Identifier: Apache-2.0
"""A function of a test file, run in a Python of its own and under a watchdog.

For what is decided once a process (the instruction set, the number of cores), and for what must not
take the test run down with it: a hang, a crash, a fork.
"""

import os
import subprocess
import sys
from collections.abc import Callable

from ltlstm_kernels import build_info

# A hang is a failure; a loaded machine is none.
WATCHDOG_S = 300


def run_alone(
    function: Callable[..., None],
    *arguments: object,
    cores: int | None = None,
    **environment: str,
) -> None:
    """Calls a module-level function, on that many cores; its exception, crash or hang fails."""
    code = f"from {function.__module__} import {function.__name__} as f; f(*{arguments!r})"
    if cores is not None:
        # Before torch is there: its thread pool looks once how many cores it has.
        mine = set(sorted(os.sched_getaffinity(0))[:cores])
        code = f"import os; os.sched_setaffinity(0, {mine}); {code}"
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = child.communicate(timeout=WATCHDOG_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, 9)  # its own children too: they hold the pipe open
        output, _ = child.communicate()
        raise AssertionError(f"hung for {WATCHDOG_S} s:\n{output}") from None
    assert child.returncode == 0, output


def instruction_sets() -> dict[str, int]:
    """Those that this machine can run, narrowest first, with the bytes of a vector."""
    has = build_info.cpu_features().get
    sets = {"generic": 16}
    if has("avx2") and has("fma"):
        sets["avx2"] = 32
        if all(has(f"avx512{part}") for part in ("f", "bw", "dq", "vl")):
            sets["avx512"] = 64
            if has("avx512_bf16"):
                sets["avx512bf16"] = 64
    return sets
