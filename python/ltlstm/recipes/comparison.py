# SPDX-License-Identifier: Apache-2.0
"""The comparison itself: corpus, training of each model, scores, and what is said about them."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from ltlstm import files
from ltlstm.recipes import checkpoint, decoding, latency, pace, plots, report, scoring
from ltlstm.recipes.checkpoint import CheckpointError, Progress
from ltlstm.recipes.console import Console
from ltlstm.recipes.models import AcousticModel, ModelSpec
from ltlstm.recipes.report import Score
from ltlstm.recipes.speech import corpus as corpora
from ltlstm.recipes.speech import features
from ltlstm.recipes.speech.corpus import Corpus
from ltlstm.recipes.speech.sources import Source
from ltlstm.recipes.training import Budget, Watch, train
from ltlstm.sparsity import count

NAMED_AT_MOST = 10  # bad files; all are counted, and listed in the results


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run does; `out` gets the checkpoints, results.json, table.txt and the pictures."""

    specs: list[ModelSpec]
    seeds: int
    budget: Budget  # with `seconds`, of as many steps at most
    enough: int  # steps from which on a table ranks models
    out: pathlib.Path
    cache: pathlib.Path
    top: int  # Hz
    threads: int
    save_every: int  # steps
    seconds: int | None = None  # of training, all models together: decides the steps
    timed: bool = False  # measure what the models of the first seed cost to run


def compare(source: Source, plan: Plan, console: Console) -> None:
    began = time.monotonic()
    console.say(f"speech: {source.words}")
    corpus = prepare(source, plan, console)
    torch.set_num_threads(plan.threads)
    for line in _corpus_lines(corpus):
        console.say(line)
    plan = _paced(plan, corpus, console)
    budget = _budget_line(plan, corpus)
    console.say(f"budget of each model: {budget}")

    scores: list[Score] = []
    runs: plots.Runs = {}
    trained: dict[str, AcousticModel] = {}  # of the first seed
    for seed in range(plan.seeds):
        teacher = None
        for spec in plan.specs:
            model, progress = _train(spec, corpus, plan, seed, teacher, console)
            teacher = teacher or model
            runs.setdefault(spec.name, []).append(progress)
            scores.append(_score(model, corpus, seed, progress, console))
            trained.setdefault(spec.name, model)

    console.say()
    console.say(f"Test set: {_size(corpus, 'test')} split {source.split}.")
    caution = report.caution(plan.budget.steps, plan.enough)
    text = f"Budget: {budget}.\n{caution}{report.table(scores)}"
    console.say(text)
    _keep(scores, runs, text, plan, corpus, budget, console)
    if plan.timed:
        measure(trained, plan, console)
    _picture(runs, plan, console)
    console.say(f"{time.monotonic() - began:.0f} s in all")


def measure(trained: dict[str, AcousticModel], plan: Plan, console: Console) -> None:
    """What the models of the first seed cost to run, printed and kept."""
    times = latency.measure(trained)
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    text = f"One stream, {latency.FRAMES} frames a call, seed 0, {threads}:\n{latency.table(times)}"
    console.say(f"\n{text}")
    content = {"threads": plan.threads, "latencies": [vars(each) for each in times]}
    path = plan.out / "latencies.json"
    files.write_atomically(path, json.dumps(content, indent=1).encode())
    files.write_atomically(plan.out / "latencies.txt", f"{text}\n".encode())
    console.say(f"written: {path}, {plan.out / 'latencies.txt'}")


def measure_again(source: Source, plan: Plan, console: Console) -> None:
    """:func:`measure` from the checkpoints of a run that is finished; CheckpointError for others,
    or for models that were trained with other options."""
    corpus = prepare(source, plan, console)
    torch.set_num_threads(plan.threads)
    plan = _paced(plan, corpus, console)
    for spec in plan.specs:
        path = checkpoint_path(spec, corpus, plan, 0)
        if checkpoint.steps_done(path) < plan.budget.steps:
            raise CheckpointError(
                f"{path} is not there or not finished: the same command without --measure trains it"
            )
    measure(
        {s.name: _train(s, corpus, plan, 0, None, console)[0] for s in plan.specs}, plan, console
    )


def prepare(source: Source, plan: Plan, console: Console) -> Corpus:
    description = {**source.description, "top": plan.top}
    return corpora.load_or_make(
        source.jobs,
        description,
        plan.cache,
        plan.top,
        os.cpu_count() or 1,
        console.say,
        console.bar,
    )


def _corpus_lines(corpus: Corpus) -> Iterator[str]:
    sizes = ", ".join(f"{split} {_size(corpus, split)}" for split in corpora.SPLITS)
    yield f"corpus: {sizes}; {len(corpus.phones) - 1} phones, {corpus.senones} senones"
    if corpus.skipped:
        yield f"{len(corpus.skipped)} bad files skipped:"
        yield from (f"  {line}" for line in corpus.skipped[:NAMED_AT_MOST])
        if len(corpus.skipped) > NAMED_AT_MOST:
            yield f"  and {len(corpus.skipped) - NAMED_AT_MOST} more, all in results.json"


def _size(corpus: Corpus, split: str) -> str:
    content = corpus.splits[split]
    return f"{content.hours * 60:.1f} min in {len(content.names):,} utterances"


def _budget_line(plan: Plan, corpus: Corpus) -> str:
    budget = plan.budget
    frames = budget.steps * budget.batch * budget.frames
    own = [f"{spec.name} {spec.rate:g}" for spec in plan.specs if spec.rate is not None]
    rates = f"{budget.rate:g}" + (f" ({', '.join(own)})" if own else "")
    epochs = frames / len(corpus.splits["train"].features)
    return (
        f"{budget.steps:,} steps of {budget.batch} x {budget.frames} frames of "
        f"{features.FRAME_PERIOD * 1000:.0f} ms ({epochs:.1f} times the training set), "
        f"Adam {rates}, {plan.seeds} seed{'s' if plan.seeds > 1 else ''}, "
        f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    )


def _paced(plan: Plan, corpus: Corpus, console: Console) -> Plan:
    """With as many steps as fit in its seconds, if it has any."""
    if plan.seconds is None:
        return plan
    decisive = [plan.seconds, [dataclasses.asdict(spec) for spec in plan.specs], plan.seeds]
    decisive += [vars(plan.budget), plan.threads, corpus.fingerprint]
    path = plan.out / "checkpoints" / f"steps-{_digest(decisive)}.json"
    budget = pace.fitted(
        plan.seconds, path, plan.specs, plan.seeds, corpus, plan.budget, console.say
    )
    return dataclasses.replace(plan, budget=budget)


def _digest(decisive: list[Any]) -> str:
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:8]


def checkpoint_path(spec: ModelSpec, corpus: Corpus, plan: Plan, seed: int) -> pathlib.Path:
    """Named after all that decides the run, so that other settings are another file."""
    own = {name: value for name, value in dataclasses.asdict(spec).items() if value is not None}
    decisive = [own, vars(plan.budget), seed, plan.threads, corpus.fingerprint]
    if spec.sparsity is not None and spec.sparsity.distill > 0:
        decisive.append(dataclasses.asdict(plan.specs[0]))  # the teacher
    return plan.out / "checkpoints" / f"{spec.file_name}-seed{seed}-{_digest(decisive)}.pt"


def _train(
    spec: ModelSpec,
    corpus: Corpus,
    plan: Plan,
    seed: int,
    teacher: AcousticModel | None,
    console: Console,
) -> tuple[AcousticModel, Progress]:
    path = checkpoint_path(spec, corpus, plan, seed)
    title = spec.name if plan.seeds == 1 else f"{spec.name} seed {seed}"
    with stop_on_signal() as stop, console.bar(f"{title:18}", plan.budget.steps) as update:
        watch = Watch(console.say, update, stop)
        return train(spec, corpus, plan.budget, seed, path, plan.save_every, watch, teacher)


@contextlib.contextmanager
def stop_on_signal() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask for a stop at the next step; a second one stops at once."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _score(
    model: AcousticModel, corpus: Corpus, seed: int, progress: Progress, console: Console
) -> Score:
    loop = decoding.count_loop(corpus.splits["train"], corpus.senones)
    dev, test = corpus.splits["dev"], corpus.splits["test"]
    tuning = scoring.tune(scoring.log_posteriors(model, dev), dev, loop)
    posteriors = scoring.log_posteriors(model, test)
    size = count(model)
    score = Score(
        model.spec.name,
        seed,
        scoring.frame_error(posteriors, test),
        scoring.phone_error(posteriors, test, loop, tuning),
        size.live_parameters,
        size.live_flops,
        1000 * statistics.median(progress.seconds),
        dataclasses.asdict(tuning),
    )
    console.say(
        f"{score.model}: frame error {score.frame_error:.1f} %, "
        f"phone error {score.phone_error:.1f} %"
    )
    return score


def _keep(
    scores: list[Score],
    runs: plots.Runs,
    text: str,
    plan: Plan,
    corpus: Corpus,
    budget: str,
    console: Console,
) -> None:
    content = {
        "budget": budget,
        "settings": vars(plan.budget),
        "threads": plan.threads,
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__},
        "corpus": {
            "fingerprint": corpus.fingerprint,
            "phones": corpus.phones,
            "hours": {split: corpus.splits[split].hours for split in corpora.SPLITS},
            "skipped": corpus.skipped,
        },
        "scores": [vars(score) for score in scores],
        "curves": {
            name: [
                {
                    "losses": progress.losses,
                    "dev_errors": progress.dev_errors,
                    "gradient_norms": progress.gradient_norms,
                    "live": progress.live,
                }
                for progress in seeds
            ]
            for name, seeds in runs.items()
        },
    }
    files.write_atomically(plan.out / "results.json", json.dumps(content, indent=1).encode())
    files.write_atomically(plan.out / "table.txt", f"{text}\n".encode())
    console.say(f"written: {plan.out / 'results.json'}, {plan.out / 'table.txt'}")


def _picture(runs: plots.Runs, plan: Plan, console: Console) -> None:
    try:
        written = plots.write_plots(runs, plan.out)
    except ImportError:
        command = f"{sys.executable} -m pip install matplotlib"
        console.say(f"no pictures: matplotlib is not installed ({command})")
    else:
        console.say(f"written: {', '.join(map(str, written))}")
