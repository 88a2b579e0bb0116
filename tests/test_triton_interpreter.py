# SPDX-License-Identifier: Apache-2.0
"""The interpreter that the Triton tests trust, itself tested: right on bfloat16, deaf to nothing
that lies outside of the tensors."""

from collections.abc import Callable

import torch

from child import run_alone


def interpreted(function: Callable[[], None]) -> None:
    run_alone(function, TRITON_INTERPRET="1", OMP_NUM_THREADS="1")


def _bfloat16() -> None:
    import triton_interpreter  # noqa: F401
    from triton_small_kernels import copy_kernel, product_kernel, sum_kernel

    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        a, b = torch.randn(2, 16, 16).to(dtype)
        out = torch.empty(16, 16)
        product_kernel[(1, 1)](a, b, out, 16)
        torch.testing.assert_close(out, a.float() @ b.float())
    # Ties, both ways, and what has no successor.
    x = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3.4e38, torch.inf, torch.nan, 1e-40, 0])
    x = torch.cat([x, torch.randn(56)])
    narrow, back = torch.empty(64, dtype=torch.bfloat16), torch.empty(64)
    copy_kernel[(1, 1)](x, narrow, 0, 64)
    assert torch.equal(narrow.nan_to_num(nan=7.0), x.bfloat16().nan_to_num(nan=7.0))
    copy_kernel[(1, 1)](narrow, back, 0, 64)
    assert torch.equal(back.nan_to_num(nan=7.0), narrow.float().nan_to_num(nan=7.0))
    try:
        sum_kernel[(1, 1)](narrow, narrow.clone(), 64)
    except RuntimeError as error:
        assert "sum_kernel failed" in str(error)
    else:
        raise AssertionError("a sum of bfloat16 went through")


def test_bfloat16_is_computed_by_value() -> None:
    interpreted(_bfloat16)


def _bounds() -> None:
    import triton_interpreter  # noqa: F401
    from triton_small_kernels import copy_kernel, scatter_kernel

    # Inside of one allocation, so that only the tensor's own extent tells.
    memory = torch.zeros(100)
    x, out = memory[20:52], torch.empty(32)
    for kernel in (copy_kernel, scatter_kernel):
        kernel[(1, 1)](x, out, 0, 32)
        for shift in (1, -1, 40, 1 << 20):
            try:
                kernel[(1, 1)](x, out, shift, 32)
            except RuntimeError as error:
                assert f"{kernel.fn.__name__} failed" in str(error)
            else:
                raise AssertionError(f"{kernel.fn.__name__} went {shift} out of bounds, unseen")


def test_what_lies_outside_of_the_tensors_is_refused() -> None:
    interpreted(_bounds)
