# SPDX-License-Identifier: Apache-2.0
"""Compiled operators of ltlstm, loaded on import into `torch.ops.ltlstm`.

The package works with any of its libraries absent: `libraries()` says which are there and why the
others are not. Only a library that ought to be there and is not brings a warning, once.
"""

import ctypes
import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

__all__ = ["Library", "libraries"]


class Library(NamedTuple):
    """One compiled library: where it was loaded from, or why it was not."""

    path: Path | None
    error: str | None = None

    @property
    def loaded(self) -> bool:
        return self.error is None


_loaded: dict[str, Library] = {}


def libraries() -> dict[str, Library]:
    """The libraries by name: "_C" (build facts, CPU features), "_ops_cpu" and "_ops_cuda"."""
    return dict(_loaded)


def _find(name: str) -> Path | None:
    return next(iter(sorted(Path(__file__).parent.glob(f"{name}.*so"))), None)


def _load(name: str, load: Callable[[Path], object]) -> Library:
    path = _find(name)
    if path is None:
        return Library(None, "not built")
    try:
        load(path)
    except (ImportError, OSError) as error:
        return Library(path, f"failed to load: {error}")
    return Library(path)


def _load_cuda(path: Path) -> None:
    """Raises OSError where torch is a CUDA build and the library has not found its functions: they
    are null then, and a call would jump to nowhere."""
    torch.ops.load_library(path)
    if torch.version.cuda is None:
        return
    ask = ctypes.CDLL(str(path)).ltlstm_missing_functions
    ask.restype = ctypes.c_char_p
    names = ask().decode()
    if names:
        raise OSError(f"torch {torch.__version__} must have the functions it calls, lacks {names}")


def cpu_isa(path: Path) -> str:
    """The instruction set whose kernels the CPU library at that path runs here.

    Raises ValueError where LTLSTM_CPU_ISA names none: the library reads it.
    """
    ask, told = ctypes.CDLL(str(path)).ltlstm_cpu_isa, ctypes.c_char_p()
    ask.restype = ctypes.c_bool
    known = ask(ctypes.byref(told))
    text = (told.value or b"").decode()
    if not known:
        raise ValueError(text)
    return text


def _load_cpu(path: Path) -> None:
    torch.ops.load_library(path)
    cpu_isa(path)


def _load_all() -> None:
    _loaded["_C"] = _load("_C", lambda path: importlib.import_module("ltlstm_kernels._C"))
    _loaded["_ops_cpu"] = _load("_ops_cpu", _load_cpu)
    if _loaded["_ops_cpu"].loaded:
        _loaded["_ops_cuda"] = _load("_ops_cuda", _load_cuda)
    else:
        # The schemas stand in the CPU library: without them an implementation has no operator.
        _loaded["_ops_cuda"] = Library(_find("_ops_cuda"), "needs _ops_cpu, which is missing")
    for name, library in _loaded.items():
        if name == "_ops_cuda" and not _loaded["_ops_cpu"].loaded:
            continue  # one cause, one warning
        # A package without a CUDA library is a legitimate build; every build has a CPU library.
        if library.error and (library.path is not None or name == "_ops_cpu"):
            warnings.warn(f"ltlstm_kernels: {name} {library.error}", RuntimeWarning, stacklevel=3)


_load_all()
