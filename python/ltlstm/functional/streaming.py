# SPDX-License-Identifier: Apache-2.0
"""The layer lane in chunks of time, with look-ahead: each frame of each layer is computed once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ltlstm.functional.layer_lane import following, look_ahead, unit
from ltlstm.reference.rows import Weights


class LayerLaneStream:
    """Takes h of all layers for some frames, gives g of the last layer for those it can.

    A layer's frame is complete when the layer below has seen ``tau`` frames more, so each layer
    keeps h of its own, and g and m of the layer below, for the frames that still wait.
    """

    def __init__(
        self, depth_unit: str, backend: str, weights: Sequence[Weights], contexts: Sequence[Tensor]
    ) -> None:
        self._depth_unit = depth_unit
        self._backend = backend
        self._weights = weights
        self._contexts = contexts
        self._waiting: list[tuple[Tensor | None, ...]] = [(None,) * 3 for _ in weights]

    def push(self, hidden: Sequence[Tensor], last: bool = False) -> Tensor:
        """hidden, L tensors (t, N, P) -> (t', N, Q); ``last``: no frame follows these."""
        g, m = unit(self._depth_unit, self._backend, hidden[0], None, None, self._weights[0])
        for layer in range(1, len(hidden)):
            h, below, m = (
                _append(old, new)
                for old, new in zip(self._waiting[layer], (hidden[layer], g, m), strict=True)
            )
            context = self._contexts[layer - 1]
            tau = context.shape[0] - 1
            ready = below.shape[0] if last else max(below.shape[0] - tau, 0)
            z = look_ahead(below, context, following(below.shape[:-1], below.device, None, None))
            self._waiting[layer] = (h[ready:], below[ready:], None if m is None else m[ready:])
            g, m = unit(
                self._depth_unit, self._backend, h[:ready], z[:ready],
                None if m is None else m[:ready], self._weights[layer],
            )  # fmt: skip
        return g


def _append(old: Tensor | None, new: Tensor | None) -> Tensor | None:
    return new if old is None or new is None else torch.cat([old, new])
