# SPDX-License-Identifier: Apache-2.0
"""Grow-and-prune around an ordinary training loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ltlstm.sparsity import distributed
from ltlstm.sparsity.compact import Compact, compact
from ltlstm.sparsity.gradients import Gradients
from ltlstm.sparsity.held import Held, Masks, learning_rate
from ltlstm.sparsity.readers import Readers
from ltlstm.sparsity.run import Run, check_options, check_state, facts
from ltlstm.sparsity.schedule import Schedule
from ltlstm.sparsity.sets import weight_sets
from ltlstm.sparsity.shift import Shift
from ltlstm.sparsity.snapshot import Snapshot
from ltlstm.sparsity.units import Graph
from ltlstm.sparsity.weights import find_weights, first_names, trained_weights


class GrowPrune:
    """Seeds a model's weights, grows them by gradient and prunes them by magnitude as it trains.

    ::

        sparse = GrowPrune(model, Schedule.over(steps, target=0.05), optimizer)
        for x, y in batches:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            sparse.take_gradients()              # optional: before clipping, after unscaling
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            sparse.step()                        # after the optimiser, before zero_grad
        sparse.finish()

    After each :meth:`step` dormant weights are exactly zero, whatever the optimiser made of them,
    and so are its momentum and moments of them. HLSTM's masks are its ``<param>_mask`` buffers, and
    what is loaded or written into those stands; those of other modules live here, so that their
    state dicts stay as they are: load this one's state dict beside such a model's, or its weights
    come under the masks of now.

    Args:
        model: its nn.Linear, nn.Conv1d to 3d and LSTM weights (nn's and this package's) are masked.
        schedule: when and how much.
        optimizer: whose state is handled; None where there is none.
        granularity: one of ``masks.GRANULARITIES``. With ``row`` the input and recurrent weights of
            a layer have one index set.
        weights: names of the parameters to mask; None is all that can be and are not frozen. A
            weight that is computed from others (weight_norm, a parametrization) is left out, with a
            warning.
        masks: to start from, by name, instead of a random seed. Without it and at a seed of 1 the
            masks that modules have (HLSTM) stay as they are.
        readers: which modules alone read a module's output, ``{"lstm": ["output"]}``; inside stacks
            and nn.Sequential it is known. Without it a module's output counts as read.
        accept: called under no_grad before each pruning and in :meth:`finish`: whether the network,
            retrained since the last pruning, is still good enough. At the first no the last good
            network comes back and pruning ends.
        rank_by: what growth ranks by: "sum", |sum dL/dW|, or "abs", sum |dL/dW|.
        wake: woken weights start at "zero" or at one "step" of descent along the mean gradient.
        fast_sizes: live counts, of rows or columns, that pruning aims at: it rounds up to them.
        seed: of the random masks.
        scaler: the torch.amp.GradScaler in use: steps that it skips do not count for growth. (With
            a fused optimiser call ``scaler.unscale_(optimizer)`` yourself.)
        group: the process group whose ranks train together; None is the default one. Gradients are
            averaged over it before they are ranked, and all get the first rank's masks. Build it
            before the model is wrapped, or give it the wrapped model: either works.

    Raises:
        ValueError, TypeError: arguments that do not fit, masks of another shape, dtype or device.
        RuntimeError, in step: gradients that are missing, NaN or infinite in growth, by name.
        RuntimeError, in step: a weight frozen since, where it would be pruned, by name.
        ValueError, in step: a weight that would be pruned to nothing, by name; nothing changed.

    Dai, Yin, Jha, "Grow and Prune Compact, Fast, and Accurate LSTMs", arXiv 1805.11797.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        optimizer: torch.optim.Optimizer | None = None,
        *,
        granularity: str = "element",
        weights: Iterable[str] | None = None,
        masks: Mapping[str, Tensor] | None = None,
        readers: Readers | None = None,
        accept: Callable[[], bool] | None = None,
        rank_by: str = "sum",
        wake: str = "zero",
        fast_sizes: Sequence[int] = (),
        seed: int = 0,
        scaler: torch.amp.GradScaler | None = None,
        group: Any = None,
    ) -> None:
        check_options(granularity, rank_by, wake, fast_sizes)
        found = trained_weights(model, weights)
        if not found:
            raise ValueError(f"GrowPrune: model must have maskable weights, got {type(model)}")
        self.model, self.schedule, self.optimizer = model, schedule, optimizer
        self.granularity, self.accept, self.wake = granularity, accept, wake
        self.group = group
        self._run = Run()
        self._readers = readers
        self._graph = Graph(model, find_weights(model), readers)
        self._held = Held(model, found, optimizer, self._graph)
        self._shift = Shift(model)
        self._sets = weight_sets(found, granularity, fast_sizes)
        self._options = {"rank_by": rank_by, "wake": wake, "fast_sizes": sorted(fast_sizes)}
        self._gradients = Gradients(self._held, rank_by, scaler, group)
        self._good: Snapshot | None = None
        first = first_names(model)
        start = {first.get(name, name): mask for name, mask in (masks or {}).items()}
        generator = torch.Generator("cpu").manual_seed(seed)
        for each in self._sets if masks is None else ():
            start |= each.seed(schedule.seed, generator)
        self._held.check(start)
        for each in self._sets:
            each.check(start)
        # What seeding clears, until the first step: a resumed run may want it back.
        self._unseeded: Masks = {
            name: weight.parameter.detach().clone() for name, weight in self._held.weights.items()
        }
        self._change(self._agreed(start), "seed")
        self._prepare()

    @property
    def masks(self) -> Masks:
        """By parameter name, bool: False is dormant. Biases too, where their units were removed."""
        return self._held.masks

    @property
    def steps(self) -> int:
        """Done so far."""
        return self._run.steps

    @property
    def log(self) -> list[dict[str, Any]]:
        """For each event its ``step``, ``event``, ``live`` weights, and ``density`` by name."""
        return self._run.log

    @property
    def phase(self) -> str:
        """``seed``, ``grow``, ``train``, ``prune`` or ``done``."""
        return "done" if self._run.stopped else self.schedule.phase(self.steps)

    @property
    def progress(self) -> float:
        """The share of the schedule that is done."""
        return 1.0 if self.phase == "done" else self.steps / self.schedule.end

    def density(self) -> dict[str, float]:
        """The live share of each masked weight."""
        return self._held.density()

    def report(self) -> str:
        """Progress and the density of each weight, as text."""
        density = self.density()
        width = max(map(len, density))
        head = f"step {self.steps}: {self.phase}, {self._held.live():,} live weights"
        return "\n".join([head, *(f"  {n:{width}}  {100 * d:6.2f} %" for n, d in density.items())])

    def take_gradients(self) -> None:
        """Optional, before the gradients are clipped: takes them for growth and leaves those of
        dormant weights zero, so that these do not count in a norm."""
        self._gradients.take(self._collects())

    @torch.no_grad()
    def step(self) -> None:
        """What the schedule says for this step; then dormant weights are exactly zero."""
        self._unseeded = {}
        taken, self._gradients.taken = self._gradients.taken, False
        if not taken:
            self._gradients.collect(self._collects())
        self._run.steps += 1
        self._held.apply(states=not taken)
        going = not self._run.stopped
        if self.schedule.grows(self.steps) and going:
            self._grow()
        if self.schedule.shifts(self.steps) and going and not self._run.shifted:
            self._shift.to_relu()
            self._run.shifted = True
            self._note("shift")
        if self.schedule.prunes(self.steps) and going and self._judge():
            self._prune()
        self._prepare()

    def finish(self) -> None:
        """The end of training: where the network, pruned last, is not accepted, the last good one
        comes back. Masks and activations change no more."""
        if self._run.unjudged and not self._run.stopped:
            self._judge()
        self._run.stopped = True
        self._prepare()

    def _prepare(self) -> None:
        """HLSTM gives gradients of dormant weights when it is asked to."""
        self._gradients.ask(self._collects())

    def _collects(self) -> bool:
        """Whether the gradients of the next step count for a growth."""
        return self.schedule.collects(self.steps + 1) and not self._run.stopped

    def _change(self, masks: Masks, event: str, **more: Any) -> None:
        """New masks, and a line in the log."""
        self._held.set(masks)
        self._held.apply()
        self._note(event, **more)

    def _agreed(self, masks: Masks) -> Masks:
        """Of the weights, the same on all ranks."""
        names = self._held.weights
        return {name: distributed.same_everywhere(masks[name], self.group) for name in names}

    def _note(self, event: str, **more: Any) -> None:
        facts = {"step": self.steps, "event": event, "live": self._held.live()}
        self.log.append({**facts, "density": self.density(), **more})

    def _grow(self) -> None:
        self._run.growths += 1
        before = {name: mask.clone() for name, mask in self.masks.items()}  # not the buffers
        scores = self._gradients.scores()
        masks = dict(before)
        for each in self._sets:
            wanted = each.wanted(self.schedule.seed + self._run.growths * self.schedule.grow)
            masks |= each.grow(before, scores, wanted)
        self._change(masks | self._agreed(masks), "grow")
        if self.wake == "step":
            for name, start in self._gradients.one_step().items():
                parameter = self.model.get_parameter(name)
                woken = self.masks[name] & ~before[name]
                rate = learning_rate(self.optimizer, parameter)
                parameter.add_(torch.where(woken, start * -rate, 0).to(parameter.dtype))
        self._gradients.clear()

    @torch.no_grad()
    def _judge(self) -> bool:
        """Whether the network as it is may be pruned on."""
        if self.accept is None:
            return True
        device = next(self.model.parameters()).device
        if distributed.all_agree(bool(self.accept()), self.group, device):
            self._good = Snapshot.of(self._held, self._shift)
            self._run.unjudged = False
            return True
        self._run.stopped = True
        self._run.unjudged = False
        if self._good is not None:
            self._good.put_back(self._held, self._shift)
        self._note("reject")
        return False

    def _prune(self) -> None:
        for name, weight in self._held.weights.items():
            if not weight.parameter.requires_grad:
                raise RuntimeError(
                    f"GrowPrune: {name} must require gradients, got one frozen since: to prune the "
                    "others, make a GrowPrune of them (weights=)"
                )
        before = self.masks
        masks = dict(before)
        for each in self._sets:
            base = self._run.bases.setdefault(each.name, each.live(before))
            share = (1 - self.schedule.prune) ** (self._run.prunings + 1)
            parameters = {w.name: w.parameter for w in each.weights}
            masks |= each.prune(before, parameters, base * share, self.schedule.floor)
        masks |= self._agreed(masks)
        masks, dead = self._graph.without_dead(masks)
        self._change(masks, "prune", removed_units=dead)
        self._run.prunings += 1
        self._run.unjudged = True

    def compact(self) -> Compact:
        """:func:`ltlstm.sparsity.compact` of the model as it is."""
        return compact(self.model, self._readers)

    def state_dict(self) -> dict[str, Any]:
        """All that an exact resume needs beside the model's and the optimiser's own; a copy, which
        later steps leave as it is."""
        return {
            **self._facts(),
            "run": self._run.state_dict(),
            "masks": {name: mask.clone() for name, mask in self.masks.items()},
            "gradients": self._gradients.state_dict(),
            "activations": self._shift.activations(),
            "good": None if self._good is None else dict(vars(self._good)),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on as the GrowPrune that gave ``state`` would, on the same model and schedule, whose
        state dicts are loaded before, or before this GrowPrune was made. ValueError for a state of
        another model, schedule or of other options."""
        check_state(state, self._facts())
        self._unseed()
        self._held.set(state["masks"])
        self._run = Run(**copy.deepcopy(state["run"]))
        self._gradients.load_state_dict(state["gradients"])
        self._good = None if state["good"] is None else Snapshot(**state["good"])
        if "activations" in state:
            self._shift.put(state["activations"])
        elif self._run.shifted:  # format 1 had none at first
            self._shift.to_relu()
        self._held.apply()
        self._prepare()

    @torch.no_grad()
    def _unseed(self) -> None:
        """Brings back what the random seed has cleared, in weights not written since: they may have
        been loaded before."""
        for name, dormant in self._held.dormant() if self._unseeded else ():
            if name not in self._unseeded:
                continue
            parameter = self.model.get_parameter(name)
            if not bool((parameter.masked_fill(~dormant, 0) != 0).any()):
                before = self._unseeded[name].to(parameter.device, parameter.dtype)
                parameter.copy_(torch.where(dormant, before, parameter))
        self._unseeded = {}

    def _facts(self) -> dict[str, Any]:
        options = {**self._options, "readers": self._graph.readers}
        return facts(self.schedule, self.granularity, self._held.weights, options)
