# SPDX-License-Identifier: Apache-2.0
"""What every test stands on: fixed seeds, poisoned uninitialised memory, the devices that exist."""

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

# cuBLAS is deterministic only with a workspace of fixed size, named before CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
# Several test processes share the processors: threads that spin while they wait, as OpenMP's do,
# take them from each other. Read when torch is loaded; with it the suite takes a third of the time.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import hypothesis
import pytest
import torch

import default_device
import emulated_run
import proofs
from dry_target import target  # noqa: F401  (a fixture)

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

# Of the files and tests that run on kernels of CUDA, emulated or on a GPU.
CUDA_KERNELS = emulated_run.ASKED or default_device.ASKED

REASONS = pytest.StashKey[Counter[str]]()
# Minutes on one processor each: begun first, so that none is waited for alone at the end.
LONG = (
    "test_cpu_isa",
    "test_cpu_threads",
    "test_features_files",
    "test_operators_compile",
    "test_property",
    "test_recipe_run",
    "test_recipe_sparse",
)

# A shared machine decides how long an example takes.
hypothesis.settings.register_profile("ltlstm", deadline=None)
hypothesis.settings.load_profile("ltlstm")


def pytest_configure() -> None:
    default_device.check()


def pytest_report_header() -> str:
    on = "emulated kernels" if emulated_run.ASKED else f"devices {DEVICES}"
    on += f", of which {default_device.ASKED} stands for all" * bool(default_device.ASKED)
    return f"torch {torch.__version__}, {on}, threads {torch.get_num_threads()}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        marks = {"cuda": [pytest.mark.gpu]}
        devices = [pytest.param(name, marks=marks.get(name, [])) for name in DEVICES]
        metafunc.parametrize("device", devices)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    others = collection_path.match("test_*.py") and collection_path.name not in emulated_run.FILES
    return True if CUDA_KERNELS and others else None


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long files come first; what is left to make prove is marked. Without a CUDA device the tests
    marked gpu are deselected, on emulated kernels those that cannot run so; pytest counts them, and
    tells why."""
    items.sort(key=lambda item: item.path.stem not in LONG)
    for item in filter(proofs.is_proof, items):
        item.add_marker("prove")
    reasons = {item: reason for item in items if (reason := _reason_against(item))}
    if reasons:
        config.hook.pytest_deselected(items=list(reasons))
        items[:] = [item for item in items if item not in reasons]
        config.stash[REASONS] = Counter(reasons.values())


def _reason_against(item: pytest.Item) -> str | None:
    if item.get_closest_marker("gpu") and "cuda" not in DEVICES:
        return "no CUDA device"
    return emulated_run.reason_against(item) if CUDA_KERNELS else None


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    reasons = config.stash.get(REASONS, Counter())
    return [f"deselected: {count}: {reason}" for reason, count in sorted(reasons.items())]


@pytest.fixture(autouse=True)
def repeatable():
    """The same random numbers for each test, and NaN in whatever a kernel forgets to write."""
    random.seed(0)
    torch.manual_seed(0)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session", autouse=True)
def on_the_default_device() -> Iterator[None]:
    with default_device.in_its_place() if default_device.ASKED else nullcontext():
        yield


@pytest.fixture(scope="session")
def emulated_calls() -> Iterator[Counter[str] | None]:
    """What the emulated library is asked for, where the run is one of emulated kernels."""
    if not emulated_run.ASKED:
        yield None
        return
    with emulated_run.in_place_of_the_cpu() as calls:
        yield calls


@pytest.fixture(autouse=True)
def on_what_was_asked_for(emulated_calls: Counter[str] | None) -> Iterator[None]:
    if emulated_calls is not None:
        emulated_calls.clear()
    yield
    assert emulated_calls is None or emulated_calls.total(), "nothing ran on emulated kernels"
