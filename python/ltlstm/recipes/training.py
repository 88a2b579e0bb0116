# SPDX-License-Identifier: Apache-2.0
"""One training run: plain loop, Adam, state carried from chunk to chunk, exact resume.

A sparse model is grown and pruned in the same loop, and may learn from a dense one's posteriors.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy, kl_div

from ltlstm.recipes import checkpoint, probe, scoring
from ltlstm.recipes.checkpoint import Progress
from ltlstm.recipes.models import READERS, AcousticModel, ModelSpec
from ltlstm.recipes.speech.corpus import IGNORED, Corpus
from ltlstm.recipes.streams import Chunk, Streams
from ltlstm.sparsity import GrowPrune, Schedule

LOOKS = 10  # at the dev voices in a run, and one before it: the points of the learning curve


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

    def share_at(self, step: int) -> float:
        """Of the highest rate."""
        rise = max(1.0, self.warm_up * self.steps)
        if step < rise:
            return (step + 1) / (rise + 1)
        return (self.steps - step) / (self.steps - rise)


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
    teacher: AcousticModel | None = None,
) -> tuple[AcousticModel, Progress]:
    """Goes on from the checkpoint at `path`, if there is one, to the last step.

    teacher: the dense model that a sparse one with `distill` learns from.
    """
    torch.manual_seed(seed)
    streams = Streams(corpus.splits["train"], budget.batch, budget.frames, seed)
    probed = streams.chunk(0)
    model = AcousticModel(spec, corpus.splits["train"].features.shape[1], corpus.senones)
    optimizer = torch.optim.Adam(model.parameters())
    sparse = _grow_prune(spec, model, optimizer, budget, seed)
    progress = checkpoint.load(path, model, optimizer, sparse)
    if progress is None:
        progress = Progress()
        _look(model, corpus, probed, budget, progress)
    elif progress.step < budget.steps:
        watch.say(f"{spec.name}, seed {seed}: goes on from step {progress.step} of {path}")
    else:
        watch.say(f"{spec.name}, seed {seed}: trained earlier, {path}")
    watch.update(progress.step, "")

    while progress.step < budget.steps:
        _step(model, optimizer, sparse, teacher, streams, budget, progress)
        if _looks_after(progress.step, budget.steps):
            _look(model, corpus, probed, budget, progress)
        done, stopping = progress.step == budget.steps, watch.stop()
        if done or stopping or progress.step % save_every == 0:
            saved = checkpoint.save(path, model, optimizer, progress, watch.say, sparse)
        recent = progress.losses[-20:]
        watch.update(progress.step, f"loss {sum(recent) / len(recent):.3f}{_phase(sparse)}")
        if stopping and not done:
            where = f"{spec.name}, seed {seed}, step {progress.step} of {budget.steps}"
            onward = "there" if saved else "the last checkpoint"
            raise Stopped(f"{where}; the same command goes on from {onward}")
    return model, progress


def timed(
    spec: ModelSpec, corpus: Corpus, budget: Budget, teacher: AcousticModel | None
) -> tuple[AcousticModel, float, float]:
    """A model that was trained for a few steps, a step's median seconds, and those of a look."""
    streams = Streams(corpus.splits["train"], budget.batch, budget.frames, seed=0)
    model = AcousticModel(spec, corpus.splits["train"].features.shape[1], corpus.senones)
    optimizer = torch.optim.Adam(model.parameters())
    sparse = _grow_prune(spec, model, optimizer, budget, seed=0)
    progress = Progress()
    for _ in range(8):
        _step(model, optimizer, sparse, teacher, streams, budget, progress)
    began = time.perf_counter()
    _look(model, corpus, streams.chunk(0), budget, progress)
    look = time.perf_counter() - began
    return model, statistics.median(progress.seconds[2:]), look  # the first ones warm up


def _grow_prune(
    spec: ModelSpec,
    model: AcousticModel,
    optimizer: torch.optim.Optimizer,
    budget: Budget,
    seed: int,
) -> GrowPrune | None:
    """What makes the model sparse; None for a dense one."""
    if spec.sparsity is None:
        return None
    wanted = spec.sparsity
    schedule = Schedule.over(
        budget.steps,
        wanted.target,
        seed=wanted.seed,
        grown=wanted.grown,
        grow_share=wanted.grow_share,
        prune_share=wanted.prune_share,
        prunings=wanted.prunings,
    )
    return GrowPrune(
        model, schedule, optimizer, granularity=wanted.granularity, readers=READERS, seed=seed
    )


def _phase(sparse: GrowPrune | None) -> str:
    if sparse is None:
        return ""
    return f", {sparse.phase}, {sparse.log[-1]['live']:,} live weights"


def _step(
    model: AcousticModel,
    optimizer: torch.optim.Optimizer,
    sparse: GrowPrune | None,
    teacher: AcousticModel | None,
    streams: Streams,
    budget: Budget,
    progress: Progress,
) -> None:
    began = time.perf_counter()
    chunk = streams.chunk(progress.step)
    for group in optimizer.param_groups:
        group["lr"] = (model.spec.rate or budget.rate) * budget.share_at(progress.step)
    logits, state = model(chunk.features, progress.state, chunk.reset)
    loss = cross_entropy(logits.flatten(0, 1), chunk.labels.flatten(), ignore_index=IGNORED)
    share = model.spec.sparsity.distill if model.spec.sparsity is not None else 0.0
    if share > 0 and teacher is not None:
        loss = (1 - share) * loss + share * _distance(logits, teacher, chunk, progress)
    optimizer.zero_grad()
    loss.backward()
    if sparse is not None:
        sparse.take_gradients()  # those of dormant weights count for growth, not in the norm
    torch.nn.utils.clip_grad_norm_(model.parameters(), budget.clip)
    optimizer.step()
    if sparse is not None:
        sparse.step()
        progress.live = [(entry["step"], entry["live"]) for entry in sparse.log]

    value = float(loss.detach())
    if not math.isfinite(value):
        raise TrainingError(f"{model.spec.name}: the loss is {value} at step {progress.step}")
    progress.state = (state[0].detach(), state[1].detach())
    progress.losses.append(value)
    progress.seconds.append(time.perf_counter() - began)
    progress.step += 1


def _distance(
    logits: torch.Tensor, teacher: AcousticModel, chunk: Chunk, progress: Progress
) -> torch.Tensor:
    """From the teacher's posteriors, in nats a scored frame: what distillation adds to the loss."""
    teacher.eval()
    with torch.no_grad():
        wanted, state = teacher(chunk.features, progress.teacher, chunk.reset)
    progress.teacher = (state[0], state[1])
    scored = chunk.labels != IGNORED
    found, target = (x[scored].log_softmax(-1) for x in (logits, wanted))
    return kl_div(found, target, reduction="batchmean", log_target=True)


def _looks_after(step: int, steps: int) -> bool:
    """LOOKS times in a run, evenly, and at its end."""
    return step == steps or step % max(1, steps // LOOKS) == 0


def _look(
    model: AcousticModel, corpus: Corpus, probed: Chunk, budget: Budget, progress: Progress
) -> None:
    """The error on the dev voices; at start, middle and end the gradient norms too."""
    dev = corpus.splits["dev"]
    error = scoring.frame_error(scoring.log_posteriors(model, dev), dev)
    progress.dev_errors.append((progress.step, error))
    due = (0, budget.steps // 2, budget.steps)
    taken = len(progress.gradient_norms)
    if probe.knows(model) and taken < len(due) and progress.step >= due[taken]:
        progress.gradient_norms.append((progress.step, probe.gradient_norms(model, probed)))
