# SPDX-License-Identifier: Apache-2.0
"""Training chunks from a corpus: N streams of utterances end to end, T frames at a time.

Which frames step k sees depends on (seed, k) only, so a resumed run needs nothing but its step.
"""

from __future__ import annotations

import dataclasses

import torch

from ltlstm.recipes.speech.corpus import Split
from ltlstm.recipes.speech.recording import DataError


@dataclasses.dataclass
class Chunk:
    features: torch.Tensor  # (T, N, 240) float32
    labels: torch.Tensor  # (T, N) int64, IGNORED where nothing is scored
    reset: torch.Tensor  # (T, N) bool: an utterance, or an epoch, begins here


class Streams:
    def __init__(self, split: Split, batch: int, frames: int, seed: int) -> None:
        self.split, self.batch, self.frames, self.seed = split, batch, frames, seed
        self.chunks_per_epoch = len(split.features) // (batch * frames)
        if self.chunks_per_epoch == 0:
            raise DataError(
                f"the training set has {len(split.features)} frames, "
                f"one step takes {batch} x {frames}"
            )
        lengths = torch.tensor(split.lengths)
        self.starts = lengths.cumsum(0) - lengths
        self._epoch = -1
        self._frame_of = torch.empty(0)
        self._first = torch.empty(0)

    def chunk(self, step: int) -> Chunk:
        epoch, k = divmod(step, self.chunks_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        span = slice(k * self.frames, (k + 1) * self.frames)
        rows = self._frame_of[span]
        reset = self._first[span].clone()
        reset[0] |= k == 0  # every stream enters the epoch somewhere inside an utterance
        return Chunk(self.split.features[rows].float(), self.split.labels[rows].long(), reset)

    def _shuffle(self, epoch: int) -> None:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(len(self.starts), generator=generator).tolist()
        frames = torch.cat([self.starts[u] + torch.arange(self.split.lengths[u]) for u in order])
        first = torch.isin(frames, self.starts)
        length = len(frames) // self.batch
        self._frame_of = frames[: length * self.batch].view(self.batch, length).t()  # (length, N)
        self._first = first[: length * self.batch].view(self.batch, length).t()
        self._epoch = epoch
