# SPDX-License-Identifier: Apache-2.0
"""The main job: LSTM, residual LSTM and layer trajectory LSTM name the phone state of each frame.

`python -m ltlstm.recipes.senone` makes a speech corpus (or reads one), trains a shallow LSTM and
three kinds of deep stack on the same budget, tests them on speakers held out, and prints them in
the order in which they came out. With `--model hlstm --grow-prune` it trains a stack of LSTMs, one
LSTM layer, one HLSTM layer that is seeded, grown and pruned, and the stack grown and pruned alike,
and measures what each costs to run.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence

from ltlstm.files import cache_folder
from ltlstm.recipes.checkpoint import CheckpointError
from ltlstm.recipes.comparison import Plan, compare, measure_again
from ltlstm.recipes.console import Console
from ltlstm.recipes.models import ModelSpec
from ltlstm.recipes.options import (
    DEFAULT,
    FULL,
    GROW_PRUNE_SEEDS,
    GROW_PRUNE_STEPS,
    parse,
    specs,
)
from ltlstm.recipes.speech import sources
from ltlstm.recipes.speech.recording import DataError
from ltlstm.recipes.training import Budget, Stopped, TrainingError


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        models = specs(options)
    except ValueError as error:
        print(f"senone: {error}", file=sys.stderr)
        return 2
    console = Console()
    try:
        _run(options, models, console)
        return 0
    except (DataError, CheckpointError, TrainingError, OSError) as error:
        print(f"senone: {error}", file=sys.stderr)
        return 1
    except Stopped as error:
        console.say(f"stopped: {error}")
    except KeyboardInterrupt:
        console.say("stopped; the same command goes on from the last checkpoint")
    return 128 + signal.SIGINT


def _run(options: argparse.Namespace, models: list[ModelSpec], console: Console) -> None:
    size = FULL if options.full else DEFAULT
    steps, seeds = size.steps, 1
    if options.grow_prune:
        steps, seeds = max(steps, GROW_PRUNE_STEPS), GROW_PRUNE_SEEDS
    plan = Plan(
        specs=models,
        seeds=options.seeds or seeds,
        budget=Budget(options.steps or steps),
        enough=steps,
        seconds=options.budget,
        out=options.out,
        cache=options.cache or cache_folder(),
        top=options.top,
        threads=options.threads,
        save_every=options.save_every,
        timed=options.model == "hlstm",
    )
    if options.data is None:
        source = sources.synthetic(size.sentences, seed=0)
    else:
        source = sources.on_disk(options.data, seed=0)
    run = measure_again if options.measure else compare
    run(source, plan, console)


if __name__ == "__main__":
    sys.exit(main())
