# SPDX-License-Identifier: Apache-2.0
"""The CUDA operators over emulated kernels, standing in for the CPU's: the binding that serves a
GPU, its streams and its kernels, from the same sources, under everything that Python does.

`with emulated() as calls:` puts them in; `calls` counts what ran. `LTLSTM_BACKEND=emulated
python -m pytest tests/...` does so for a whole run; there is no float64 on a GPU.
"""

import atexit
import functools
import shutil
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.cpp_extension import include_paths, library_paths

from emulator.builds import CSRC, HERE, link, objects

OPERATORS = [
    f"{op}_{way}" for op in ("lstm_stack", "lt_lstm", "cell") for way in ("forward", "backward")
]
# The version of the headers stands here so that other headers make other objects.
FLAGS = ["-DTORCH_STABLE_ONLY", "-DTORCH_TARGET_VERSION=0x020a000000000000"]
FLAGS += [f'-DHEADERS="{torch.__version__}"', "-Wno-maybe-uninitialized"]
SHARED = ("binding/arguments.cpp", "binding/calls.cpp", "binding/operators.cpp")
SHARED += ("cpu/sparse_compile.cpp",)


@functools.cache
def library() -> Path:
    """Built once a process, of objects that are compiled once."""
    kernels = [*CSRC.glob("*.cpp"), *(CSRC / "cuda").glob("*.cu")]
    bindings = [p for p in (CSRC / "binding").glob("cuda*.cpp") if p.stem != "cuda_device"]
    bindings += [*(CSRC / name for name in SHARED), *HERE.glob("binding/*.cpp")]
    flags = [*FLAGS, *(f"-isystem{path}" for path in include_paths())]
    compiled = objects(sorted(kernels), "plain") + objects(sorted(bindings), "plain", flags)
    linked = [f"-L{path}" for path in library_paths()] + ["-ltorch", "-ltorch_cpu"]
    folder = Path(tempfile.mkdtemp(prefix="emulated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return link(compiled, "plain", folder / "emulated.so", shared=True, libraries=linked)


def _counted(name: str, calls: Counter[str]) -> Callable[..., Any]:
    kernel = getattr(torch.ops.ltlstm_emulated, name).default

    def run(*arguments: Any) -> Any:
        calls[name] += 1
        return kernel(*arguments)

    return run


@contextmanager
def emulated() -> Iterator[Counter[str]]:
    if not hasattr(torch.ops.ltlstm_emulated, OPERATORS[0]):
        torch.ops.load_library(library())
    calls: Counter[str] = Counter()
    instead = torch.library.Library("ltlstm", "IMPL")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Warning only once for all operators")
            for name in OPERATORS:
                instead.impl(name, _counted(name, calls), "CPU", allow_override=True)
        yield calls
    finally:
        instead._destroy()
