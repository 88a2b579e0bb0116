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
import dataclasses
import pathlib
import signal
import sys
from collections.abc import Sequence

from ltlstm.recipes.checkpoint import CheckpointError
from ltlstm.recipes.comparison import Plan, compare
from ltlstm.recipes.console import Console
from ltlstm.recipes.files import cache_folder
from ltlstm.recipes.models import ModelSpec, Sparsity, default_specs, hidden_gate_specs
from ltlstm.recipes.speech import sources
from ltlstm.recipes.speech.recording import DataError
from ltlstm.recipes.training import Budget, Stopped, TrainingError
from ltlstm.sparsity import GRANULARITIES


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is spoken and how long each model trains."""

    sentences: dict[str, int]  # a voice, by split
    steps: int


DEFAULT = Size({"train": 30, "dev": 6, "test": 10}, steps=1500)
FULL = Size({"train": 60, "dev": 12, "test": 12}, steps=10_000)
# Layers and cells, of the deep models and of the stack beside an HLSTM.
SHAPES = {"lt_lstm": (6, 96), "hlstm": (3, 192)}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ltlstm.recipes.senone",
        description="Train LSTM, ResidualLSTM and LTLSTM on speech and compare them on speakers "
        "held out. A run that was stopped, by Ctrl-C or in any other way, goes on where it was "
        "when the same command is given again; a finished one only prints its results again.",
    )
    add = parser.add_argument
    add(
        "--model",
        choices=tuple(SHAPES),
        default="lt_lstm",
        help="lt_lstm (the default): a shallow LSTM, LSTM, ResidualLSTM and LTLSTM; hlstm: a stack "
        "of LSTMs, one LSTM layer and one HLSTM layer",
    )
    add(
        "--depth",
        type=_positive,
        metavar="LAYERS",
        help="layers of the deep models (6), or of the stack beside an HLSTM (3)",
    )
    add(
        "--width",
        type=_positive,
        metavar="CELLS",
        help="cells in each of their layers (96; 192 with --model hlstm); the shallow LSTM has "
        "twice as many",
    )
    add(
        "--gate-width",
        type=_positive,
        metavar="CELLS",
        help="width of the hidden layers in an HLSTM's gates (that of its cells)",
    )
    sparse = parser.add_argument_group("grow-and-prune", "with --model hlstm")
    sparse.add_argument(
        "--grow-prune",
        action="store_true",
        help="seed, grow and prune the HLSTM, and a second stack by the same schedule",
    )
    for name, value, what in (
        ("--density", 0.15, "at the end"),
        ("--seed-density", 0.4, "at the start"),
        ("--grown-density", 0.6, "after growth"),
    ):
        sparse.add_argument(
            name,
            type=_share,
            default=value,
            metavar="SHARE",
            help=f"of weights that are live {what} ({value})",
        )
    for name, span in (("--grow", Sparsity.grow_share), ("--prune", Sparsity.prune_share)):
        sparse.add_argument(
            name,
            type=_span,
            default=span,
            metavar="FROM:UNTIL",
            help=f"shares of the training between which it {name[2:]}s ({span[0]}:{span[1]})",
        )
    sparse.add_argument(
        "--granularity",
        choices=GRANULARITIES,
        default="element",
        help="which weights live and die together (element)",
    )
    sparse.add_argument(
        "--distill",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of the sparse models' loss that is their distance from the dense stack's "
        "posteriors (0)",
    )
    add(
        "--steps",
        type=_positive,
        metavar="N",
        help=f"training steps of each model ({DEFAULT.steps})",
    )
    add("--seeds", type=_positive, default=1, metavar="N", help="runs of each model, averaged (1)")
    add(
        "--full",
        action="store_true",
        help=f"a larger corpus ({FULL.sentences['train']} sentences a voice, not "
        f"{DEFAULT.sentences['train']}) and {FULL.steps:,} steps",
    )
    add(
        "--data",
        type=pathlib.Path,
        metavar="DIR",
        help="read this corpus: wav or flac with alignments beside them (.TextGrid, .phn, .ctm), "
        "or a Kaldi folder (wav.scp, segments, a phone .ctm); without, speech is synthesised",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path("runs/senone"),
        metavar="DIR",
        help="where checkpoints, results and pictures go (runs/senone)",
    )
    add(
        "--cache",
        type=pathlib.Path,
        metavar="DIR",
        help="where corpora are kept (the user's cache folder)",
    )
    add(
        "--top",
        type=_positive,
        default=7600,
        metavar="HZ",
        help="highest frequency of the features (7600 Hz); half a file's sampling rate at most",
    )
    add(
        "--threads",
        type=_positive,
        default=1,
        metavar="N",
        help="threads in training (1); another number gives slightly other results",
    )
    add(
        "--save-every",
        type=_positive,
        default=100,
        metavar="STEPS",
        help="steps between checkpoints (100)",
    )
    return parser.parse_args(arguments)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return value


def _span(text: str) -> tuple[float, float]:
    first, last = (_share(part) for part in text.split(":"))
    if first >= last:
        raise argparse.ArgumentTypeError(f"must be shares in order, got {text}")
    return first, last


def specs(options: argparse.Namespace) -> list[ModelSpec]:
    """ValueError for densities out of order."""
    depth, width = SHAPES[options.model]
    depth, width = options.depth or depth, options.width or width
    if options.model == "lt_lstm":
        if options.grow_prune:
            raise ValueError("--grow-prune goes with --model hlstm")
        return default_specs(depth, width)
    if not options.grow_prune:
        return hidden_gate_specs(depth, width, None, options.gate_width)
    wanted = Sparsity(
        options.density,
        options.seed_density,
        options.grown_density,
        options.granularity,
        options.grow,
        options.prune,
        options.distill,
    )
    if not 0 < wanted.target <= wanted.grown or wanted.seed > wanted.grown:
        raise ValueError(
            "--density, above 0, and --seed-density must be at most --grown-density, got "
            f"{wanted.target:g}, {wanted.seed:g} and {wanted.grown:g}"
        )
    if wanted.grow_share[1] > wanted.prune_share[0]:
        raise ValueError("--grow must end before --prune begins")
    return hidden_gate_specs(depth, width, wanted, options.gate_width)


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
    plan = Plan(
        specs=models,
        seeds=options.seeds,
        budget=Budget(options.steps or size.steps),
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
    compare(source, plan, console)


if __name__ == "__main__":
    sys.exit(main())
