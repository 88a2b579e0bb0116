# SPDX-License-Identifier: Apache-2.0
"""LTLSTM.stream: one sequence (or batch of them) chunk by chunk, with the same result as whole."""

from typing import TYPE_CHECKING

from torch import Tensor

from ltlstm import functional
from ltlstm.functional.streaming import LayerLaneStream
from ltlstm.modules.recurrent import State

if TYPE_CHECKING:
    from ltlstm.modules.lt_lstm import LTLSTM


class Stream:
    """Carries the state, and the frames whose look-ahead is not complete, from chunk to chunk.

    Chunks have the module's input form, of any length from 1 on: (t, N, D), with batch_first
    (N, t, D), unbatched (t, D). Dropout never acts. Equivalent to::

        stream = module.stream(hx)
        frames = [stream.push(chunk) for chunk in chunks] + [stream.finish()]
        torch.cat(frames)                      # module.eval()(torch.cat(chunks), hx)[0]

    In half types, and under autocast, the layer part with look-ahead rounds after each operation,
    where the whole call computes in float32 on the CPU; there the two agree to that rounding only.
    Without look-ahead every push answers at once. After ``finish`` a push raises RuntimeError.
    """

    def __init__(self, module: "LTLSTM", hx: State | None) -> None:
        if module.bidirectional:
            raise ValueError(
                "LTLSTM.stream: the module must not be bidirectional (the reverse direction starts "
                "at the end of the sequence), got bidirectional=True"
            )
        self.hx = hx  # the time-LSTMs' state after the last chunk
        self._module = module
        self._options = {**module._options(), "training": False}
        self._traj_weights = module._named(module._traj_names)
        self._lane: LayerLaneStream | None = None
        if module._context_names:
            self._lane = LayerLaneStream(
                self._traj_weights, module._named(module._context_names), module._flags(),
                module.depth_unit, module.backend,
            )  # fmt: skip
        self._batched = True
        self._last: Tensor | None = None  # the last chunk's output, or h (L, t, N, P) for the lane
        self._finished = False

    def push(self, chunk: Tensor) -> Tensor:
        """The frames that became complete, in the module's output form; maybe none."""
        if self._finished:
            raise RuntimeError("Stream.push: the stream must not be finished, got another chunk")
        module, found = self._module, None
        if self._lane is None and self.hx is not None:
            found = module._forward_direct(chunk, self.hx)
        if found is None:
            found = module._forward_padded(self._compute, chunk, self.hx)
        else:
            self._last = module._in_form(found[0], batched=True)  # time-major again
        output, self.hx = found
        self._batched = chunk.dim() == 3
        return output

    def finish(self) -> Tensor:
        """The frames that still waited: nothing follows them."""
        if self._last is None or self._finished:
            raise RuntimeError("Stream.finish: must follow a push, and come once, got no chunk")
        self._finished = True
        if self._lane is None:
            g = self._last[:0]
        else:
            g = self._lane.push(self._last[:, :0].unbind(0), last=True)
        return self._module._in_form(g, self._batched)

    def _compute(self, input: Tensor, hx: State | None, *_: object) -> tuple[Tensor, State]:
        weights = self._module._time_weights()
        if self._lane is None:
            output, hx = functional.lt_lstm(
                input, hx, weights, self._traj_weights, **self._options,
                depth_unit=self._module.depth_unit,
            )  # fmt: skip
            self._last = output
            return output, hx
        _, hx, states = functional.lstm(input, hx, weights, **self._options, return_states=True)
        self._last = states.h
        return self._lane.push(states.h.unbind(0)), hx
