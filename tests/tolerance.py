# SPDX-License-Identifier: Apache-2.0
"""The one rule for "close enough", used by every test that compares floating-point results.

    err(kernel, truth) <= 2 * err(plain torch in the same dtype, truth) + floor

Truth is the float64 reference, an error is the largest absolute difference, and the floor is a few
units in the last place of the largest true value, for results so short that plain torch is exact
by luck. float64 has no truth beyond itself: there plain torch runs in float32, and its error is
counted in units of the last place.
"""

import torch
from torch import Tensor

FLOOR_ULPS = 16


def error(actual: Tensor, truth: Tensor) -> float:
    """Largest difference; infinite where one is NaN or infinite and the other is not the same."""
    a, b = actual.detach().double(), truth.detach().double()
    same = (a == b) | (a.isnan() & b.isnan())
    difference = (a - b).abs().nan_to_num(nan=torch.inf).masked_fill(same, 0)
    return difference.max().item() if difference.numel() else 0.0


def assert_close(
    actual: Tensor, truth: Tensor, plain: Tensor | None = None, name: str = "result"
) -> None:
    """The rule above; without ``plain`` (its error taken as zero) only the floor is allowed."""
    assert actual.shape == truth.shape, f"{name}: shape {actual.shape}, not {truth.shape}"
    eps = torch.finfo(actual.dtype).eps
    finite = truth.detach().double().abs()
    finite = finite[finite.isfinite()]
    floor = FLOOR_ULPS * eps * (finite.max().item() if finite.numel() else 0.0)
    allowed = floor
    if plain is not None:
        allowed += 2 * error(plain, truth) * eps / torch.finfo(plain.dtype).eps
    found = error(actual, truth)
    # An infinite allowance would let anything pass: plain torch must be finite where truth is.
    assert found <= allowed < torch.inf, (
        f"{name}: error {found:.3e} against truth, allowed {allowed:.3e} (floor {floor:.3e})"
    )


def assert_all_close(
    actual: dict[str, Tensor], truth: dict[str, Tensor], plain: dict[str, Tensor]
) -> None:
    """The rule for each named result; the three must have the same names."""
    assert actual.keys() == truth.keys() == plain.keys()
    for name in truth:
        assert_close(actual[name], truth[name], plain[name], name)
