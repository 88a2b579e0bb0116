# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of a training run: all that an uninterrupted run would know, in one whole file."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import torch

from ltlstm import files
from ltlstm.sparsity import GrowPrune

FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint that this run cannot go on from: one line that says why."""


@dataclasses.dataclass
class Progress:
    """Everything about a run but its model and optimiser."""

    step: int = 0  # steps done
    state: tuple[torch.Tensor, torch.Tensor] | None = None  # carried into the next chunk
    losses: list[float] = dataclasses.field(default_factory=list)  # of each step
    seconds: list[float] = dataclasses.field(default_factory=list)  # of each step
    dev_errors: list[tuple[int, float]] = dataclasses.field(default_factory=list)  # step, %
    gradient_norms: list[tuple[int, list[float]]] = dataclasses.field(default_factory=list)
    teacher: tuple[torch.Tensor, torch.Tensor] | None = None  # the dense model's state, distilled
    live: list[tuple[int, int]] = dataclasses.field(default_factory=list)  # step, live weights


def save(
    path: pathlib.Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    say: Callable[[str], None],
    sparse: GrowPrune | None = None,
) -> bool:
    """Whether it is saved. If not (a full disk, say) one line says so; the last one stays."""
    content = {
        "format": FORMAT,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "progress": vars(progress),
        "rng": torch.get_rng_state(),
        "sparse": None if sparse is None else sparse.state_dict(),
    }
    try:
        files.save_tensors(path, content)
        return True
    except OSError as error:
        say(f"checkpoint of step {progress.step} not saved, the last one stays: {error}")
        return False


def load(
    path: pathlib.Path,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    sparse: GrowPrune | None = None,
) -> Progress | None:
    """Puts model, optimiser, masks and random generator back; None if there is no checkpoint."""
    if not path.exists():
        return None
    try:
        content = torch.load(path, weights_only=True)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}, expected {FORMAT}")
        model.load_state_dict(content["model"])
        optimizer.load_state_dict(content["optimizer"])
        if sparse is not None:
            sparse.load_state_dict(content["sparse"])
        torch.set_rng_state(content["rng"])
        return Progress(**content["progress"])
    except Exception as error:  # whatever a foreign or damaged file makes torch.load raise
        raise _unusable(path, error) from error


def steps_done(path: pathlib.Path) -> int:
    """0 where there is no checkpoint."""
    if not path.exists():
        return 0
    try:
        return int(torch.load(path, weights_only=True, mmap=True)["progress"]["step"])
    except Exception as error:
        raise _unusable(path, error) from error


def _unusable(path: pathlib.Path, error: Exception) -> CheckpointError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return CheckpointError(
        f"{path} is no checkpoint of this run ({reason[0]}): delete it, or use another --out"
    )
