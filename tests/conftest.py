# SPDX-License-Identifier: Apache-2.0
"""What every test stands on: fixed seeds, poisoned uninitialised memory, the devices that exist."""

import os
import random

# cuBLAS is deterministic only with a workspace of fixed size, named before CUDA starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import hypothesis
import pytest
import torch

DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]

# A shared machine decides how long an example takes.
hypothesis.settings.register_profile("ltlstm", deadline=None)
hypothesis.settings.load_profile("ltlstm")


def pytest_report_header() -> str:
    return f"torch {torch.__version__}, devices {DEVICES}, threads {torch.get_num_threads()}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        marks = {"cuda": [pytest.mark.gpu]}
        devices = [pytest.param(name, marks=marks.get(name, [])) for name in DEVICES]
        metafunc.parametrize("device", devices)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a CUDA device the tests marked gpu are deselected, and pytest counts them so."""
    if "cuda" in DEVICES:
        return
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if needs_gpu:
        config.hook.pytest_deselected(items=needs_gpu)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


@pytest.fixture(autouse=True)
def repeatable():
    """The same random numbers for each test, and NaN in whatever a kernel forgets to write."""
    random.seed(0)
    torch.manual_seed(0)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
