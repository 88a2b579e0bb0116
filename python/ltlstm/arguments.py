# SPDX-License-Identifier: Apache-2.0
"""Values on a command line, and what argparse says of those that do not fit."""

from argparse import ArgumentTypeError


def positive(text: str) -> int:
    """An integer from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be an integer, at least 1, got {text}")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"must be a number from 0 to 1, got {text}")
    return value


def span(text: str) -> tuple[float, float]:
    """Two shares in order."""
    first, _, last = text.partition(":")
    try:
        found = share(first), share(last)
    except ArgumentTypeError:
        found = (1.0, 0.0)
    if found[0] >= found[1]:
        raise ArgumentTypeError(f"must be two shares in order, first:last, got {text}")
    return found
