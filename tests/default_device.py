# SPDX-License-Identifier: Apache-2.0
"""`LTLSTM_TEST_DEVICE=cuda python -m pytest`: the tests that run on emulated kernels, on a GPU.

What they make without naming a device is made there, and a backend they name `cpu` is `cuda`. Our
operators raise on a CPU tensor, so that nothing passes for having stayed there.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._device import DeviceContext, _device_constructors

ASKED = os.environ.get("LTLSTM_TEST_DEVICE", "")


class OnDevice(DeviceContext):
    """torch.set_default_device, except that a generator of the CPU gives its numbers there first,
    and that a list of integers, as lengths or the rows of each step, stays where torch wants it."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        if func not in _device_constructors() or given.get("device") is not None:
            return func(*args, **given)
        generator = given.get("generator")
        if generator is not None and generator.device.type != self.device.type:
            return func(*args, **given, device=generator.device).to(self.device)
        if func is torch.tensor:
            made = func(*args, **given | {"device": "cpu"})
            if made.dtype == torch.int64:
                return made
        return func(*args, **given | {"device": self.device})


def _refuse(name: str) -> Callable[..., Any]:
    def run(*_: Any) -> Any:
        raise AssertionError(f"{name} was called on the CPU in a run of LTLSTM_TEST_DEVICE={ASKED}")

    return run


def check() -> None:
    """Raises UsageError where what is asked for is not there."""
    if ASKED and not (ASKED == "cuda" and torch.cuda.is_available()):
        raise pytest.UsageError(
            f"LTLSTM_TEST_DEVICE must name a device that is there: cuda, got {ASKED!r}"
        )


@contextmanager
def in_its_place() -> Iterator[None]:
    from emulated_library import OPERATORS
    from ltlstm.functional import run

    choose = run.choose

    def on_the_gpu(backend: str | None, asked: Any) -> str:
        return choose("cuda" if backend == "cpu" else backend, asked)

    refusing = torch.library.Library("ltlstm", "IMPL")
    with pytest.MonkeyPatch.context() as patch, OnDevice(ASKED):
        for name in OPERATORS:
            refusing.impl(name, _refuse(name), "CPU", allow_override=True)
        patch.setattr(run, "choose", on_the_gpu)
        patch.setenv("LTLSTM_BACKEND", "cuda")
        patch.setattr(torch.backends.cudnn, "allow_tf32", False)  # float32 is compared with it
        try:
            yield
        finally:
            refusing._destroy()
