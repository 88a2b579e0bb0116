# SPDX-License-Identifier: Apache-2.0
"""Kernels that show what the interpreter gets right, and what it must refuse."""

import triton
import triton.language as tl


@triton.jit
def product_kernel(a, b, out, N: tl.constexpr):
    """out = a b, float32, from N x N of any type."""
    at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at), input_precision="ieee"))


@triton.jit
def copy_kernel(x, out, shift, N: tl.constexpr):
    """N elements in out's type, from and to `shift` elements further."""
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(x + at + shift).to(out.dtype.element_ty))


@triton.jit
def scatter_kernel(x, out, shift, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at + shift, tl.load(x + at))


@triton.jit
def sum_kernel(x, out, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(out + at, tl.load(x + at) + tl.load(x + at))
