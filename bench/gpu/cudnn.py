# SPDX-License-Identifier: Apache-2.0
"""What there was before us: the rates of a copy and of a product, nn.LSTM and its kernels."""

from functools import partial
from typing import Any

import torch
from torch import nn

from bench import timing
from bench.gpu import profile
from bench.gpu.device import peer_computes, seconds_of
from bench.gpu.target import Target
from bench.timing import Call


def _timed(calls: dict[str, Call], target: Target) -> dict[str, timing.Timing]:
    timings = timing.measure(
        calls, (), 0.1, rest=lambda _: None, stopwatch=seconds_of(target.device)
    )
    assert timings is not None
    return timings


def _ceilings(target: Target) -> dict[str, Any]:
    size = 256 if target.emulated else 8192
    a, b = torch.randn(2, size, size, device=target.device).bfloat16()
    found = _timed({"copy": Call(lambda: b.copy_(a)), "product": Call(lambda: a @ b)}, target)
    return {
        "copy_bytes": 4 * size**2 / found["copy"].median,
        "product_operations": 2 * size**3 / found["product"].median,
    }


def _lstm(H: int, N: int, dtype: torch.dtype, target: Target) -> dict[str, Any]:
    T = 3 if target.emulated else 512
    lstm = nn.LSTM(H, H, device=target.device, dtype=dtype)
    x = torch.randn(T, N, H, device=target.device, dtype=dtype, requires_grad=True)

    def forward() -> None:
        with torch.no_grad():
            lstm(x)

    def training() -> None:
        output = lstm(x)[0]
        torch.autograd.grad(output, [x, *lstm.parameters()], torch.ones_like(output))

    calls = {"forward": Call(forward), "training": Call(training)}
    timings = _timed(calls, target)
    kernels = {
        name: profile.shown(profile.kernels_of(call.run, target.device), most=10)
        for name, call in calls.items()
    }
    return {
        "T": T, "N": N, "H": H, "computes": peer_computes(dtype, target.device),
        "us_a_step": {name: 1e6 * t.median / T for name, t in timings.items()},
        "kernels": kernels,
    }  # fmt: skip


def cudnn(target: Target) -> None:
    """nn.LSTM in bfloat16 first, for its kernels have no published names, then the types that cuDNN
    is known by."""
    bf16, fp16 = torch.bfloat16, torch.float16
    wide, rows = ((16,), (2,)) if target.emulated else ((512, 1024, 256), (16, 64, 1))
    cases = [(H, N, bf16) for N in rows for H in wide]
    cases += [(wide[0], rows[0], fp16), (wide[0], rows[0], torch.float32)]
    if target.quick:
        cases = cases[:3]
    items = {
        f"nn.LSTM H{H}N{N} {str(dtype)[6:]}": partial(_lstm, H, N, dtype, target)
        for H, N, dtype in cases
    }
    target.each("cudnn", {"rates": partial(_ceilings, target), **items})
