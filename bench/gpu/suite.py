# SPDX-License-Identifier: Apache-2.0
"""The stage of bench/gpu.sh that runs the tests of the operators and modules on the GPU."""

import importlib.util
import re
import sys

from bench import record
from bench.gpu import programs
from bench.gpu.target import Target, environment

# Of a dry run: emulated kernels take seconds where a GPU takes none.
DRY_FILES = ("test_residual_lstm.py",)
FIRST = ("test_operators.py", "test_lstm.py", "test_lt_lstm.py")  # and all that --quick runs
AT_ONCE = 4  # processes, which share the GPU
MARGIN = 5.0  # seconds before the stage is over in which the tests are stopped
_RESULT = re.compile(r"\b(PASSED|FAILED|ERROR)\b")
_TEST = re.compile(r"\S+\.py::.*")


def _files(target: Target) -> list[str]:
    sys.path.append(str(record.ROOT / "tests"))
    from emulated_run import FILES

    if target.emulated:
        wanted = list(DRY_FILES)
    else:
        wanted = [*FIRST, *([] if target.quick else sorted(FILES.difference(FIRST)))]
    missing = [name for name in wanted if not (record.ROOT / "tests" / name).exists()]
    if missing:
        raise RuntimeError(f"missing: {', '.join(missing)}")
    return [f"tests/{name}" for name in wanted]


def suite(target: Target) -> None:
    """The tests that also run on emulated kernels, with CUDA as the default device. Where there is
    no time for all of them, what has passed and failed until then is known."""
    target.need_device()
    command = [sys.executable, "-m", "pytest", "-v", "--tb=short", "-p", "no:cacheprovider"]
    given = {} if target.emulated else {"LTLSTM_TEST_DEVICE": "cuda"}
    if not target.emulated and importlib.util.find_spec("xdist"):
        command += ["-n", str(AT_ONCE), "--dist", "load"]
    passed, failed, stopped, crashed = 0, [], False, None
    env = environment(target, **given)
    try:
        for line in programs.lines([*command, *_files(target)], target.left() - MARGIN, **env):
            print(line, flush=True)
            result = _RESULT.search(line)
            test = _TEST.search(_RESULT.sub("", line))
            if result is None or test is None or " - " in line:  # the summary names them again
                continue
            if result[0] == "PASSED":
                passed += 1
            else:
                failed.append(test[0].partition(" [")[0].strip())
    except TimeoutError:
        stopped = True
    except programs.Failed as problem:
        crashed = str(problem)
    failed = sorted(set(failed))
    target.write(
        {"group": "suite", "passed": passed, "failed": failed, "stopped": stopped, "said": crashed}
    )
    if failed:
        raise RuntimeError(f"{len(failed)} of {passed + len(failed)} fail; {failed[0]}")
    if crashed or not passed:
        raise RuntimeError(crashed or "no test has passed")
