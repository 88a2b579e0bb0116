# SPDX-License-Identifier: Apache-2.0
"""How many training steps fit in a number of seconds: timed on this machine, once, and kept.

What is decided is kept beside the checkpoints, so that a run that goes on goes on with its steps.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence

from ltlstm import files
from ltlstm.recipes.checkpoint import CheckpointError
from ltlstm.recipes.models import ModelSpec
from ltlstm.recipes.speech.corpus import Corpus
from ltlstm.recipes.training import LOOKS, Budget, timed


def fitted(
    seconds: int,
    path: pathlib.Path,
    specs: Sequence[ModelSpec],
    seeds: int,
    corpus: Corpus,
    most: Budget,
    say: Callable[[str], None],
) -> Budget:
    """`most` with as many steps as all runs together take in `seconds`, LOOKS at least; as kept at
    `path`, if they were decided before. CheckpointError if that file cannot be read."""
    if path.exists():
        steps = _kept(path)
        say(f"{seconds} s of training: {steps:,} steps of each model, as decided before ({path})")
        return dataclasses.replace(most, steps=steps)
    step = look = 0.0
    teacher = None
    for spec in specs:
        model, one_step, one_look = timed(spec, corpus, most, teacher)
        teacher = teacher or model
        step, look = step + one_step, look + one_look
    fitting = round((seconds / seeds - LOOKS * look) / step)
    steps = min(most.steps, max(LOOKS, fitting // 10 * 10))
    say(
        f"{seconds} s of training: {steps:,} steps of each model (here one of every model takes "
        f"{1000 * step:.0f} ms, a look at the dev voices {1000 * look:.0f} ms)"
    )
    files.write_atomically(path, json.dumps({"seconds": seconds, "steps": steps}).encode())
    return dataclasses.replace(most, steps=steps)


def _kept(path: pathlib.Path) -> int:
    try:
        steps = json.loads(path.read_text())["steps"]
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        return steps
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} does not tell this run's steps ({error}): delete it"
        ) from error
