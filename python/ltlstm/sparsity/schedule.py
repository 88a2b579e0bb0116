# SPDX-License-Identifier: Apache-2.0
"""When a network is grown, shifted and pruned, in optimiser steps, and by how much."""

from __future__ import annotations

import dataclasses

from ltlstm.sparsity.layout import check_fraction


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Seed, growth, activation shift and pruning: Dai, Yin, Jha, arXiv 1805.11797, section 3.

    The papers publish neither alpha, beta nor the seed's fraction for H-LSTM: these defaults grow
    nothing and prune nothing, and :meth:`over` chooses values from a target.

    Args:
        seed: fraction of each weight's groups that is live at the start; 1 is a dense start, or one
            from the masks that the model has.
        grow: alpha, the fraction of a weight's groups that wakes at each growth.
        grow_from, grow_until, grow_every: gradients are collected after step ``grow_from``; growth
            follows every ``grow_every`` steps, last at ``grow_until``.
        shift_at: step after which leaky ReLUs become ReLUs, every HLSTM and nn.LeakyReLU of the
            model, whichever weights are sparse; None for never.
        prune: beta, the fraction of a weight's live groups that each pruning drops.
        prune_from, prune_until, prune_every: pruning after step ``prune_from``, 1 or later, and
            then every ``prune_every``, last at ``prune_until``; between them the network is
            retrained.
        floor: no weight is pruned to a lower density than this.

    Raises:
        ValueError: fractions outside [0, 1], a phase that ends before it starts or overlaps the
            next one.
    """

    seed: float = 1.0
    grow: float = 0.0
    grow_from: int = 0
    grow_until: int = 0
    grow_every: int = 1
    shift_at: int | None = None
    prune: float = 0.0
    prune_from: int = 0
    prune_until: int = 0
    prune_every: int = 1
    floor: float = 0.0

    def __post_init__(self) -> None:
        for name in ("seed", "grow", "prune", "floor"):
            check_fraction("Schedule", name, getattr(self, name))
        for name in ("grow_from", "prune_from"):
            self._check(name, getattr(self, name), 0)
        for name in ("grow_every", "prune_every"):
            self._check(name, getattr(self, name), 1)
        self._check("grow_until", self.grow_until, self.grow_from, "grow_from")
        self._check("prune_until", self.prune_until, self.prune_from, "prune_from")
        if self.shift_at is not None:
            self._check("shift_at", self.shift_at, 0)
        if self.grow > 0 and self.prune > 0:
            self._check("prune_from", self.prune_from, self.grow_until, "grow_until")
        if self.prune > 0:  # steps count from 1
            self._check("prune_from", self.prune_from, 1)
        if self.grow > 0 and self.seed == 1:
            raise ValueError("Schedule: seed must be less than 1 where growth follows, got 1")
        if self.grow > 0 and self.grow_until - self.grow_from < self.grow_every:
            raise ValueError(
                f"Schedule: grow_until must leave time for a growth after grow_from + grow_every = "
                f"{self.grow_from + self.grow_every}, got {self.grow_until}"
            )

    @staticmethod
    def _check(name: str, value: object, least: int, of: str = "") -> None:
        _check_integer("Schedule", name, value, least, of)

    def collects(self, step: int) -> bool:
        """Whether the gradients of this step (the first is 1) count for a growth."""
        last = self.grow_until - (self.grow_until - self.grow_from) % self.grow_every
        return self.grow > 0 and self.grow_from < step <= last

    def grows(self, step: int) -> bool:
        """Whether growth follows this step."""
        return self.collects(step) and (step - self.grow_from) % self.grow_every == 0

    def shifts(self, step: int) -> bool:
        """Whether the activation is a ReLU after this step."""
        return self.shift_at is not None and step >= self.shift_at

    def prunes(self, step: int) -> bool:
        """Whether pruning follows this step."""
        if self.prune == 0 or not self.prune_from <= step <= self.prune_until:
            return False
        return (step - self.prune_from) % self.prune_every == 0

    @property
    def prunings(self) -> int:
        """How often it prunes, unless it is stopped."""
        return (self.prune_until - self.prune_from) // self.prune_every + 1 if self.prune else 0

    @property
    def end(self) -> int:
        """The last step after which masks change."""
        grown = self.grow_until if self.grow > 0 else 0
        return max(grown, self.prune_until if self.prune > 0 else 0, self.shift_at or 0)

    def phase(self, step: int) -> str:
        """``seed``, ``grow``, ``train`` (between phases), ``prune`` or ``done``, after ``step``."""
        if step >= self.end:
            return "done"
        if self.grow > 0 and step < self.grow_until:
            return "grow" if step >= self.grow_from else "seed"
        return "prune" if self.prune > 0 and step >= self.prune_from else "train"

    @classmethod
    def over(
        cls,
        steps: int,
        target: float,
        *,
        seed: float = 1.0,
        grown: float = 1.0,
        growths: int = 6,
        prunings: int = 12,
        grow_share: tuple[float, float] = (0.05, 0.25),
        prune_share: tuple[float, float] = (0.35, 0.75),
    ) -> Schedule:
        """A schedule for a training of ``steps`` steps that ends near density ``target``.

        Args:
            seed, grown: densities at the start and after growth; equal ones mean no growth. From
                them follow alpha, and from ``grown`` and ``target`` beta.
            growths, prunings: how often; a training of few steps has room for fewer.
            grow_share, prune_share: the parts of the training in which they happen, growth before
                pruning, ``(first, last)`` with 0 <= first < last <= 1; the activation shifts at the
                first pruning. What remains at the end retrains the pruned network.

        Raises:
            ValueError: densities or shares out of their order or range, counts that are no
                integers from 1 on.
        """
        for name, count in (("steps", steps), ("growths", growths), ("prunings", prunings)):
            _check_integer("Schedule.over", name, count, 1)
        for name, value in (("target", target), ("seed", seed), ("grown", grown)):
            check_fraction("Schedule.over", name, value)
        growing = grown > seed
        _check_share("prune_share", prune_share)
        if growing:
            _check_share("grow_share", grow_share)
            if grow_share[1] > prune_share[0]:
                raise ValueError(
                    f"Schedule.over: prune_share must begin after grow_share {grow_share}, got "
                    f"{prune_share}"
                )
        if not 0 < target <= grown or seed > grown:
            raise ValueError(
                f"Schedule.over: target and seed must be in (0, grown], got {target} and {seed} of "
                f"{grown}"
            )
        grow_from, grow_last = (int(steps * part) for part in grow_share)
        prune_from, prune_last = (int(steps * part) for part in prune_share)
        growths = max(1, min(growths, grow_last - grow_from))
        grow_every = max(1, (grow_last - grow_from) // growths)
        prune_from = max(1, prune_from, grow_from + growths * grow_every if growing else 0)
        prune_span = max(0, prune_last - prune_from)
        prunings = max(1, min(prunings, prune_span))
        prune_every = max(1, prune_span // max(1, prunings - 1))
        return cls(
            seed=seed,
            grow=(grown - seed) / growths if growing else 0.0,
            grow_from=grow_from,
            grow_until=grow_from + growths * grow_every if growing else grow_from,
            grow_every=grow_every,
            shift_at=prune_from,
            prune=1 - (target / grown) ** (1 / prunings),
            prune_from=prune_from,
            prune_until=prune_from + (prunings - 1) * prune_every,
            prune_every=prune_every,
        )


def _check_integer(op: str, name: str, value: object, least: int, of: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        bound = f"{of} = {least}" if of else f"{least}"
        raise ValueError(f"{op}: {name} must be an integer >= {bound}, got {value!r}")


def _check_share(name: str, share: tuple[float, float]) -> None:
    """That it is a part of the training."""
    numbers = len(share) == 2 and all(isinstance(part, int | float) for part in share)
    if not numbers or not 0 <= share[0] < share[1] <= 1:
        raise ValueError(
            f"Schedule.over: {name} must be (first, last) with 0 <= first < last <= 1, got {share}"
        )
