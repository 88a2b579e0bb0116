# SPDX-License-Identifier: Apache-2.0
"""The command bench/gpu.sh: what ends a stage ends nothing else, and what is left behind."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from bench.gpu import __main__ as command
from bench.gpu import device, parity, suite, worker
from bench.gpu.stages import STAGES
from bench.gpu.target import Skipped, Spoiled, Target
from dry_target import lines

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "bench" / "gpu.sh"

# A process as worker.serve makes one, whose stages are these. {0}: a folder.
PROCESS = """
import os, subprocess, sys, time
from pathlib import Path
from bench.gpu import worker
from bench.gpu.target import Spoiled, Target

folder = Path({0!r})
target = Target(folder / "out", True, True, folder / "logs", folder / "scratch", folder)
Target.facts = lambda self: {{"processor": "none", "emulated": True, "pid": os.getpid()}}

def hangs(target):
    child = "import os, subprocess, sys, time; open(sys.argv[1], 'w').write(str(os.getpid()))"
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', *sys.argv[1:]])"
    child += "; time.sleep(600)"
    subprocess.run([sys.executable, "-c", parent, child, str(folder / "pid")])

def items(target):
    def die(): os.abort()
    def spoil(): raise Spoiled("the CUDA context is lost: an illegal address")
    fine = dict
    target.each("items", dict(a=fine, b=die, c=fine, d=spoil, e=lambda: 1 / 0, f=fine))

def raises(target): raise RuntimeError("told so")
def dies(target): print("last words", flush=True); os._exit(5)
def works(target): print("fine")

class Stage:
    ours = False
    def __init__(self, run): self.run = run
    def __call__(self, target): self.run(target)

worker.STAGES = {{f.__name__: Stage(f) for f in (hangs, items, raises, dies, works)}}
worker.serve(target, int(sys.argv[-1]))
"""


@pytest.fixture
def runner(target: Target) -> Iterator[worker.Runner]:
    program = target.scratch / "process.py"
    program.write_text(PROCESS.format(str(target.out.parent)))
    with worker.Runner(target, [sys.executable, str(program)], time.monotonic() + 900) as made:
        yield made


@pytest.fixture(autouse=True)
def found_by_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "python")]))


def _alive(pid: int) -> bool:
    """Whether it runs; one that nothing has waited for yet does not."""
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def _gone(pid: int) -> bool:
    for _ in range(200):
        if not _alive(pid):
            return True
        time.sleep(0.05)
    return False


def test_a_stage_that_ends_its_process_ends_no_other(target: Target, runner: worker.Runner) -> None:
    passed = [runner.run(name, 300) for name in ("works", "raises", "works", "dies", "works")]
    assert passed == [True, False, True, False, True]
    assert not runner.run("works", 0.5)
    found = lines(target)
    assert [line["error"] for line in found] == [
        None, "RuntimeError: told so", None, "exit status 5: last words", None,
        "no time left for it",
    ]  # fmt: skip
    pids = [line["pid"] for line in found]
    assert pids[0] == pids[1] == pids[2] == pids[3] != pids[4], "one process while it lives"
    assert (target.files / "works.log").read_text() == "fine\n" * 3


def test_what_a_stage_has_started_ends_with_its_time(target: Target, runner: worker.Runner) -> None:
    assert runner.run("works", 300)
    seconds = 1.5
    while not (target.out.parent / "pid").exists():  # a busy machine starts it in the next try
        assert not runner.run("hangs", seconds)
        seconds *= 2
    hung = [line for line in lines(target) if line["stage"] == "hangs"]
    assert hung[0]["error"] == "took more than 2 s"
    assert _gone(int((target.out.parent / "pid").read_text())), "the grandchild runs on"
    assert _gone(hung[0]["pid"])
    assert runner.run("works", 300)


def test_an_item_that_ends_its_process_loses_only_itself(
    target: Target, runner: worker.Runner
) -> None:
    assert not runner.run("items", 300)
    *items, stage = lines(target)
    assert [line["name"] for line in items] == ["a", "c", "e", "f"]
    assert items[2]["error"] == "ZeroDivisionError: division by zero"
    first, second, third = stage["error"].split("; ", 2)
    assert first.startswith("exit status -6: ") and third.startswith("RuntimeError: 1 of 6 failed")
    assert second == "exit status 1: the CUDA context is lost: an illegal address"


def test_a_command_that_dies_takes_its_processes_along(target: Target) -> None:
    program = target.scratch / "process.py"
    program.write_text(PROCESS.format(str(target.out.parent)))
    code = (
        "import sys; from pathlib import Path; from bench.gpu import worker; "
        "from bench.gpu.target import Target; f = Path(sys.argv[1]); "
        "t = Target(f / 'out', True, True, f / 'logs', f / 'scratch', f); "
        "r = worker.Runner(t, [sys.executable, sys.argv[2]], 1e9); r.run('hangs', 1e8)"
    )
    folder = target.out.parent
    with subprocess.Popen([sys.executable, "-c", code, str(folder), str(program)]) as process:
        while not (folder / "pid").exists() or not (folder / "pid").read_text():
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert _gone(int((folder / "pid").read_text()))


def test_a_process_that_does_not_start_is_tried_once(target: Target) -> None:
    code = "import sys; print('no such module'); sys.exit(1)"
    with worker.Runner(target, [sys.executable, "-c", code], time.monotonic() + 900) as runner:
        assert not runner.run("library", 300) and not runner.run("grid", 300)
    first, second = (line["error"] for line in lines(target))
    assert first == second == "exit status 1: no such module"


def test_items_that_come_too_late_are_named(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter([9.0, 2.0, 1.0])
    monkeypatch.setattr(Target, "left", lambda self: next(left))
    target.each("items", {"a": dict, "b": dict, "c": dict})
    done, late = lines(target)
    assert done["name"] == "a" and late["late"] == ["b", "c"]


def test_a_lost_context_is_noticed(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "device", "cuda")
    monkeypatch.setattr(device, "lost", lambda: "an illegal address")
    with pytest.raises(Spoiled, match="^the CUDA context is lost: an illegal address"):
        target.each("items", {"a": lambda: 1 / 0, "b": dict})  # type: ignore[dict-item,return-value]
    assert [line["name"] for line in lines(target)] == ["a"]


def _bench(out: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(SCRIPT), out.name, *arguments], cwd=out.parent, capture_output=True,
        text=True, env={**os.environ, "PYTHON": sys.executable, **environment},
    )  # fmt: skip


def test_the_command_runs_to_its_end_and_leaves_two_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = _bench(out, "--emulated", "--quick", "--stages", "wrappers,cudnn,second")
    found = [json.loads(line) for line in (out / "gpu.jsonl").read_text().splitlines()]
    stages = {line["stage"]: line for line in found if "stage" in line}
    assert list(stages) == ["wrappers", "cudnn", "second"], run.stderr
    assert all(line["ok"] for line in stages.values()), stages
    assert stages["second"]["skipped"].startswith("one device: ")
    assert run.returncode == 0 and run.stdout.splitlines()[-1] == "every stage passed"
    for line in found:
        assert {"commit", "torch", "processor", "time", "emulated"} <= line.keys()
    assert sorted(path.name for path in out.iterdir()) == ["gpu.jsonl", "logs.tar.gz"]
    with tarfile.open(out / "logs.tar.gz") as archive:
        assert {"logs/wrappers.log", "logs/cudnn.log"} <= set(archive.getnames())


def test_without_a_gpu_every_stage_fails_with_a_sentence(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    run = _bench(
        out, "--budget", "600", "--prepared", str(tmp_path / "empty"), CUDA_VISIBLE_DEVICES=""
    )
    found = [json.loads(line) for line in (out / "gpu.jsonl").read_text().splitlines()]
    stages = {line["stage"]: line["error"] for line in found if "stage" in line}
    assert set(stages) == set(STAGES)
    assert set(stages.values()) == {"RuntimeError: torch sees no CUDA device"}, stages
    assert run.returncode == 1 and run.stdout.splitlines()[-1].startswith("failed: library, ")


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    assert os.access(SCRIPT, os.X_OK)
    for arguments in ([], ["--quick"]):
        run = subprocess.run([SCRIPT, *arguments], capture_output=True, text=True)
        assert run.returncode == 2 and "usage: bench/gpu.sh OUTDIR" in run.stderr
    run = _bench(tmp_path / "out", "--stages", "library,nothing")
    assert run.returncode == 2 and "no stage 'nothing'; there are library, " in run.stderr
    assert not (tmp_path / "out").exists()


def test_the_stages_are_there_and_fit_the_nine_minutes() -> None:
    assert command.BUDGET < 540
    for stage in STAGES.values():
        module, function = stage.run.split(":")
        assert callable(getattr(import_module(f"bench.gpu.{module}"), function))
        assert stage.seconds <= 120
    names = list(STAGES)
    right, matters = names.index("regimes"), names.index("rows")
    assert right < names.index("cudnn") < matters < names.index("hops") < names.index("grid")
    assert sum(STAGES[name].seconds for name in names[: names.index("parity")]) < command.BUDGET


def test_the_archive_is_whole_at_any_moment(target: Target) -> None:
    (target.files / "a.log").write_text("one")
    command.keep(target.files, target.out)
    (target.files / "b.log").write_text("two")
    command.keep(target.files, target.out)
    assert [path.name for path in target.out.iterdir()] == ["logs.tar.gz"]
    with tarfile.open(target.out / "logs.tar.gz") as archive:
        assert {"logs/a.log", "logs/b.log"} <= set(archive.getnames())


def test_a_second_device_is_missed_with_a_word(target: Target) -> None:
    with pytest.raises(Skipped, match="^one device: it needs tensors on a second"):
        parity.second_device(target)


def test_the_tests_that_run_are_counted_as_they_pass(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        "tests/test_a.py::test_b[x y-1] PASSED [ 10%]",
        "[gw0] [ 20%] PASSED tests/test_a.py::test_c ",
        "tests/test_a.py::test_d[z] FAILED [ 30%]",
        "FAILED tests/test_a.py::test_d[z] - AssertionError: PASSED tests/test_a.py::test_e",
    ]

    def stopped(*_: Any, **__: Any) -> Iterator[str]:
        yield from said
        raise TimeoutError

    monkeypatch.setattr(suite.programs, "lines", stopped)
    with pytest.raises(RuntimeError, match=r"^1 of 3 fail; tests/test_a.py::test_d\[z\]$"):
        suite.suite(target)
    del said[2:]
    suite.suite(target)
    failed, cut = lines(target)
    assert failed["passed"] == 2 and failed["stopped"] and cut["failed"] == []
    said.clear()
    with pytest.raises(RuntimeError, match="^no test has passed$"):
        suite.suite(target)


def test_a_dry_run_without_an_emulated_library_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "emulated_library", None)
    with pytest.raises(RuntimeError, match="^there is no emulated library: "):
        device.emulated_kernels()
