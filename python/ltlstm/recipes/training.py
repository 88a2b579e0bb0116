# SPDX-License-Identifier: Apache-2.0
"""One training run: plain loop, Adam, state carried from chunk to chunk, exact resume."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from ltlstm.recipes import checkpoint, probe, scoring
from ltlstm.recipes.checkpoint import Progress
from ltlstm.recipes.models import AcousticModel, ModelSpec
from ltlstm.recipes.speech.corpus import IGNORED, Corpus
from ltlstm.recipes.streams import Chunk, Streams


class Stopped(Exception):
    """The user asked to stop: one line that says where the run is."""


class TrainingError(Exception):
    """Training cannot go on: one line that says why."""


@dataclasses.dataclass(frozen=True)
class Budget:
    """The same for every model that is compared."""

    steps: int
    batch: int = 16  # streams
    frames: int = 64  # of 30 ms, through which one step's gradient flows
    rate: float = 4e-3  # Adam's, at its highest
    warm_up: float = 0.05  # share of the steps in which the rate rises; it then falls to 0
    clip: float = 1.0  # the gradient's norm at most

    def rate_at(self, step: int) -> float:
        rise = max(1.0, self.warm_up * self.steps)
        if step < rise:
            return self.rate * (step + 1) / (rise + 1)
        return self.rate * (self.steps - step) / (self.steps - rise)


@dataclasses.dataclass
class Watch:
    """What a run reports to, and asks whether to go on."""

    say: Callable[[str], None]
    update: Callable[[int, str], None]  # steps done and a note
    stop: Callable[[], bool]


def train(
    spec: ModelSpec,
    corpus: Corpus,
    budget: Budget,
    seed: int,
    path: pathlib.Path,
    save_every: int,
    watch: Watch,
) -> tuple[AcousticModel, Progress]:
    """Goes on from the checkpoint at `path`, if there is one, to the last step."""
    torch.manual_seed(seed)
    streams = Streams(corpus.splits["train"], budget.batch, budget.frames, seed)
    probed = streams.chunk(0)
    model = AcousticModel(spec, corpus.splits["train"].features.shape[1], corpus.senones)
    optimizer = torch.optim.Adam(model.parameters())
    progress = checkpoint.load(path, model, optimizer)
    if progress is None:
        progress = Progress()
        _look(model, corpus, probed, budget, progress)
    elif progress.step < budget.steps:
        watch.say(f"{spec.name}, seed {seed}: goes on from step {progress.step} of {path}")
    else:
        watch.say(f"{spec.name}, seed {seed}: trained earlier, {path}")
    watch.update(progress.step, "")

    while progress.step < budget.steps:
        _step(model, optimizer, streams, budget, progress)
        if _looks_after(progress.step, budget.steps):
            _look(model, corpus, probed, budget, progress)
        done, stopping = progress.step == budget.steps, watch.stop()
        if done or stopping or progress.step % save_every == 0:
            saved = checkpoint.save(path, model, optimizer, progress, watch.say)
        recent = progress.losses[-20:]
        watch.update(progress.step, f"loss {sum(recent) / len(recent):.3f}")
        if stopping and not done:
            where = f"{spec.name}, seed {seed}, step {progress.step} of {budget.steps}"
            onward = "there" if saved else "the last checkpoint"
            raise Stopped(f"{where}; the same command goes on from {onward}")
    return model, progress


def _step(
    model: AcousticModel,
    optimizer: torch.optim.Optimizer,
    streams: Streams,
    budget: Budget,
    progress: Progress,
) -> None:
    began = time.perf_counter()
    chunk = streams.chunk(progress.step)
    for group in optimizer.param_groups:
        group["lr"] = budget.rate_at(progress.step)
    logits, state = model(chunk.features, progress.state, chunk.reset)
    loss = cross_entropy(logits.flatten(0, 1), chunk.labels.flatten(), ignore_index=IGNORED)
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), budget.clip)
    optimizer.step()

    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(f"{model.spec.name}: the loss is {value} at step {progress.step}")
    progress.state = (state[0].detach(), state[1].detach())
    progress.losses.append(value)
    progress.seconds.append(time.perf_counter() - began)
    progress.step += 1


def _looks_after(step: int, steps: int) -> bool:
    """Ten times in a run, evenly, and at its end: a point of the learning curve."""
    return step == steps or step % max(1, steps // 10) == 0


def _look(
    model: AcousticModel, corpus: Corpus, probed: Chunk, budget: Budget, progress: Progress
) -> None:
    """The error on the dev voices; at start, middle and end the gradient norms too."""
    dev = corpus.splits["dev"]
    error = scoring.frame_error(scoring.log_posteriors(model, dev), dev)
    progress.dev_errors.append((progress.step, error))
    due = (0, budget.steps // 2, budget.steps)
    taken = len(progress.gradient_norms)
    if taken < len(due) and progress.step >= due[taken]:
        progress.gradient_norms.append((progress.step, probe.gradient_norms(model, probed)))
