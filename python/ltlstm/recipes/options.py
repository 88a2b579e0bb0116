# SPDX-License-Identifier: Apache-2.0
"""The senone recipe's options, and the models that they ask for."""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from collections.abc import Sequence

from ltlstm.arguments import positive, share, span
from ltlstm.recipes.models import ModelSpec, Sparsity, default_specs, hidden_gate_specs
from ltlstm.sparsity import GRANULARITIES


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is spoken and how long each model trains."""

    sentences: dict[str, int]  # a voice, by split
    steps: int


DEFAULT = Size({"train": 30, "dev": 6, "test": 10}, steps=1500)
GROW_PRUNE_STEPS = 2500  # a network of few weights learns slowly
# Adam's, of HLSTMs and of what is pruned: 8e-3 gave these a lower error on the dev voices than the
# budget's 4e-3, and the dense stack a higher one.
HIGH_RATE = 8e-3
GROW_PRUNE_SEEDS = 3
FULL = Size({"train": 60, "dev": 12, "test": 12}, steps=10_000)
# Layers and cells, of the deep models and of the stack beside an HLSTM.
SHAPES = {"lt_lstm": (6, 96), "hlstm": (2, 192)}


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
        type=positive,
        metavar="LAYERS",
        help="layers of the deep models (6), or of the stack beside an HLSTM (2)",
    )
    add(
        "--width",
        type=positive,
        metavar="CELLS",
        help="cells in each of their layers (96; 192 with --model hlstm); the shallow LSTM has "
        "twice as many",
    )
    add(
        "--hlstm-width",
        type=positive,
        default=512,
        metavar="CELLS",
        help="cells of the HLSTM, which has one layer (512)",
    )
    add(
        "--gate-width",
        type=positive,
        default=64,
        metavar="UNITS",
        help="width of the hidden layers in its gates (64)",
    )
    sparse = parser.add_argument_group("grow-and-prune", "with --model hlstm")
    sparse.add_argument(
        "--grow-prune",
        action="store_true",
        help="seed, grow and prune the HLSTM, and a second stack by the same schedule",
    )
    for name, value, what in (
        ("--density", 0.155, "in the HLSTM at the end"),
        ("--stack-density", 0.095, "in the stack at the end"),
        ("--seed-density", Sparsity.seed, "at the start"),
        ("--grown-density", Sparsity.grown, "after growth"),
    ):
        sparse.add_argument(
            name,
            type=share,
            default=value,
            metavar="SHARE",
            help=f"of weights that are live {what} ({value})",
        )
    for name, usual in (("--grow", Sparsity.grow_share), ("--prune", Sparsity.prune_share)):
        sparse.add_argument(
            name,
            type=span,
            default=usual,
            metavar="FROM:UNTIL",
            help=f"shares of the training between which it {name[2:]}s ({usual[0]}:{usual[1]})",
        )
    sparse.add_argument(
        "--granularity",
        choices=GRANULARITIES,
        default=Sparsity.granularity,
        help=f"which weights live and die together ({Sparsity.granularity})",
    )
    sparse.add_argument(
        "--distill",
        type=share,
        default=Sparsity.distill,
        metavar="SHARE",
        help="share of the sparse models' loss that is their distance from the dense stack's "
        f"posteriors ({Sparsity.distill:g})",
    )
    sparse.add_argument(
        "--measure",
        action="store_true",
        help="train and score nothing: measure again what the models of a finished run cost to "
        "run, given the same options",
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--steps",
        type=positive,
        metavar="N",
        help=f"training steps of each model ({DEFAULT.steps}; {GROW_PRUNE_STEPS} with "
        "--grow-prune); fewer do not rank models",
    )
    length.add_argument(
        "--budget",
        type=positive,
        metavar="SECONDS",
        help="as many steps, up to the usual number, as all models together train in this time: "
        "a few are timed before the training, and the number is kept in --out; making the corpus "
        "and the tests come on top",
    )
    add(
        "--seeds",
        type=positive,
        metavar="N",
        help=f"runs of each model, averaged (1; {GROW_PRUNE_SEEDS} with --grow-prune)",
    )
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
        type=positive,
        default=7600,
        metavar="HZ",
        help="highest frequency of the features (7600 Hz); half a file's sampling rate at most",
    )
    add(
        "--threads",
        type=positive,
        default=1,
        metavar="N",
        help="threads in training (1); another number gives slightly other results",
    )
    add(
        "--save-every",
        type=positive,
        default=100,
        metavar="STEPS",
        help="steps between checkpoints (100)",
    )
    return parser.parse_args(arguments)


def specs(options: argparse.Namespace) -> list[ModelSpec]:
    """ValueError for densities out of order."""
    depth, width = SHAPES[options.model]
    depth, width = options.depth or depth, options.width or width
    if options.model == "lt_lstm":
        if options.grow_prune:
            raise ValueError("--grow-prune goes with --model hlstm")
        if options.measure:
            raise ValueError("--measure goes with --model hlstm")
        return default_specs(depth, width)
    hlstm = ModelSpec(
        "HLSTM", 1, options.hlstm_width, gate_width=options.gate_width, rate=HIGH_RATE
    )
    if not options.grow_prune:
        return hidden_gate_specs(depth, width, hlstm)
    return hidden_gate_specs(
        depth,
        width,
        dataclasses.replace(hlstm, sparsity=_sparsity(options, options.density)),
        ModelSpec("LSTM", depth, width, _sparsity(options, options.stack_density), rate=HIGH_RATE),
    )


def _sparsity(options: argparse.Namespace, target: float) -> Sparsity:
    wanted = Sparsity(
        target,
        options.seed_density,
        options.grown_density,
        options.granularity,
        options.grow,
        options.prune,
        distill=options.distill,
    )
    if not 0 < target <= wanted.grown or wanted.seed > wanted.grown:
        raise ValueError(
            "densities at the end, above 0, and --seed-density must be at most --grown-density, "
            f"got {target:g}, {wanted.seed:g} and {wanted.grown:g}"
        )
    if wanted.grow_share[1] > wanted.prune_share[0]:
        raise ValueError("--grow must end before --prune begins")
    return wanted
