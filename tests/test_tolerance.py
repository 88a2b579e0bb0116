# SPDX-License-Identifier: Apache-2.0
"""The tolerance rule must be able to fail."""

import math

import pytest
import torch

from tolerance import FLOOR_ULPS, assert_all_close, assert_close, error

TRUTH = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


def shifted(by: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (TRUTH + torch.tensor([0.0, by, 0.0])).to(dtype)


def test_error_is_the_largest_difference() -> None:
    assert error(torch.tensor([1.0, -2.5, 0.25]), TRUTH) == 0.5
    assert error(torch.empty(0), torch.empty(0)) == 0.0


def test_twice_the_plain_error_passes_and_more_fails() -> None:
    plain = shifted(1e-3)
    assert_close(shifted(-1.9e-3), TRUTH, plain)
    with pytest.raises(AssertionError, match="result: error 2.1"):
        assert_close(shifted(-2.1e-3), TRUTH, plain)


def test_the_floor_is_a_few_ulps_and_no_more() -> None:
    ulp = 2 * torch.finfo(torch.float32).eps  # of the largest value, 2
    assert_close(shifted(0.5 * FLOOR_ULPS * ulp), TRUTH)
    with pytest.raises(AssertionError):
        assert_close(shifted(2 * FLOOR_ULPS * ulp), TRUTH)


def test_float64_counts_the_float32_error_in_ulps() -> None:
    plain, ratio = shifted(1e-3), 2.0**-29  # eps of float64 over eps of float32
    assert_close(shifted(1.9e-3 * ratio, torch.float64), TRUTH, plain)
    with pytest.raises(AssertionError):
        assert_close(shifted(2.1e-3 * ratio, torch.float64), TRUTH, plain)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_fail_unless_they_are_the_truth(bad: float) -> None:
    with pytest.raises(AssertionError):
        assert_close(shifted(bad), TRUTH, shifted(1e-3))
    with pytest.raises(AssertionError):
        assert_close(TRUTH.float(), shifted(bad, torch.float64), shifted(1e-3))
    with pytest.raises(AssertionError):  # a plain result that is no yardstick
        assert_close(TRUTH.float(), TRUTH, shifted(bad))
    assert_close(shifted(bad), shifted(bad, torch.float64), shifted(bad))


def test_shapes_and_names_must_agree() -> None:
    with pytest.raises(AssertionError, match="shape"):
        assert_close(TRUTH.float()[None], TRUTH, TRUTH.float())
    with pytest.raises(AssertionError):
        assert_all_close({}, {"h": TRUTH}, {"h": TRUTH.float()})
