# SPDX-License-Identifier: Apache-2.0
"""One time step: ltlstm.LSTMCell, a drop-in for nn.LSTMCell, and LTLSTMCell, of a whole stack."""

from typing import Any

from torch import Tensor, nn

from ltlstm import functional
from ltlstm.modules.cell_input import batched_cell_input
from ltlstm.modules.leaf import Leaf
from ltlstm.modules.recurrent import State, parameters_of
from ltlstm.modules.trajectory import Trajectory

_CELL_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class LSTMCell(Leaf, nn.RNNCellBase):
    """torch.nn.LSTMCell: same signature, parameters, start, numbers and errors.

    Args:
        input_size, hidden_size, bias, device, dtype: as for nn.LSTMCell.
        backend: one of ``auto, cuda, triton, cpu, aten, reference``; None is what ``use_backend``
            or the variable LTLSTM_BACKEND says, else auto.

    Shapes: input (N, D) or (D,), hx = ``(h, c)``, (N, H) or (H,) each, default zeros -> ``(h, c)``.

    Raises what nn.LSTMCell raises; RuntimeError for a named backend that cannot run.

    Equations of torch.nn.LSTMCell. Equivalent to :func:`ltlstm.functional.lstm_cell`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        backend: str | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, num_chunks=4, device=device, dtype=dtype)
        self.backend = backend

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        """The next ``(h, c)``."""
        batched = input.dim() == 2
        input, hx = batched_cell_input("LSTMCell", input, hx, self.input_size, self.hidden_size)
        if hx is None:
            zeros = input.new_zeros(input.shape[0], self.hidden_size)
            hx = (zeros, zeros)
        weights = parameters_of(self, _CELL_NAMES)
        h, c = functional.lstm_cell(input, hx, *weights, backend=self.backend)
        return (h, c) if batched else (h.squeeze(0), c.squeeze(0))


class LTLSTMCell(Trajectory):
    """One time step of a whole layer trajectory LSTM: :class:`ltlstm.LTLSTM` of one frame.

    The parameters are those of a one-directional LTLSTM, under the same names, so that state dicts
    interchange. Arguments as LTLSTM's, less what one frame cannot have: batch_first, dropout,
    bidirectional, lookahead.

    Shapes: input (N, D) or (D,); hx = ``(h, c)``, (L, N, P) and (L, N, H), unbatched (L, P) and
    (L, H), default zeros -> ``output (N, P) or (P,), (h, c)``.

    Raises what LTLSTM raises.

    arXiv 1808.09522. Equivalent to ``LTLSTM(...)(input.unsqueeze(0), hx)`` with ``output[0]``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool = False,
        share_layer_weights: bool = False,
        depth_unit: str = "lstm",
        backend: str | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, proj_size=proj_size, device=device,
            dtype=dtype, peephole=peephole, share_layer_weights=share_layer_weights,
            depth_unit=depth_unit, backend=backend,
        )  # fmt: skip

    def forward(  # type: ignore[override]
        self, input: Tensor, hx: State | None = None
    ) -> tuple[Tensor, State]:
        """``output, (h, c)``."""
        if input.dim() not in (1, 2):
            raise ValueError(
                f"LTLSTMCell: Expected input to be 1D or 2D, got {input.dim()}D instead"
            )
        output, hx = self._forward_padded(self._compute, input.unsqueeze(0), hx)
        return output.squeeze(0), hx
