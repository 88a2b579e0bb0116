# SPDX-License-Identifier: Apache-2.0
"""The layer lane in chunks of time, with look-ahead: each frame of each layer is computed once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ltlstm.functional.depth_units import by_layer
from ltlstm.functional.layer_lane import following, look_ahead, unit
from ltlstm.functional.problem import Flags, python_only
from ltlstm_kernels.backend import Asked, choose

# h of a layer, g and m of the layer below: (t, N, F) each.
Frames = tuple[Tensor, Tensor, Tensor | None]


class LayerLaneStream:
    """Takes h of all layers for some frames, gives g of the last layer for those it can.

    A layer's frame is complete when the layer below has seen ``tau`` frames more. Until then each
    layer keeps what it will read. Arguments as of :func:`ltlstm.functional.lt_lstm`.
    """

    def __init__(
        self, traj_weights: Sequence[Tensor], contexts: Sequence[Tensor], flags: Flags,
        depth_unit: str, backend: str | None,
    ) -> None:  # fmt: skip
        self._weights = by_layer(traj_weights, depth_unit, len(contexts) + 1, *flags[:3])
        self._contexts = contexts
        self._depth_unit = depth_unit
        self._backend = backend
        self._waiting: list[Frames | None] = [None] * len(contexts)

    def push(self, hidden: Sequence[Tensor], last: bool = False) -> Tensor:
        """hidden, L tensors (t, N, P) -> (t', N, Q); ``last``: no frame follows these."""
        h = hidden[0]
        device = h.device
        asked = Asked(
            "lt_lstm", device.type, h.dtype, [], python_only(hidden), device_index=device.index
        )
        backend = choose(self._backend, asked)
        g, m = unit(self._depth_unit, backend, h, None, None, self._weights[0])
        for i, context in enumerate(self._contexts):
            h, below, m = _append(self._waiting[i], (hidden[i + 1], g, m))
            ready = below.shape[0] if last else max(below.shape[0] - context.shape[0] + 1, 0)
            self._waiting[i] = (h[ready:], below[ready:], None if m is None else m[ready:])
            z = look_ahead(below, context, following(below.shape[:-1], below.device, None, None))
            m = None if m is None else m[:ready]
            g, m = unit(self._depth_unit, backend, h[:ready], z[:ready], m, self._weights[i + 1])
        return g


def _append(old: Frames | None, new: Frames) -> Frames:
    if old is None:
        return new
    m = None if old[2] is None or new[2] is None else torch.cat([old[2], new[2]])
    return torch.cat([old[0], new[0]]), torch.cat([old[1], new[1]]), m
