# SPDX-License-Identifier: Apache-2.0
"""What nn.LSTMCell checks of a call, in its order and its words, for every cell of one step.

Not left to nn.LSTMCell itself: given states of three dimensions it goes on, and dies.
"""

from torch import Tensor

from ltlstm.modules.recurrent import State


def batched_cell_input(
    op: str, input: Tensor, hx: State | None, input_size: int, hidden_size: int
) -> tuple[Tensor, State | None]:
    """(N, D) and two states (N, H), or None, of what a caller gave in either form.

    Raises for other ranks, sizes, and numbers of states; dtypes and devices are not looked at.
    """
    if input.dim() not in (1, 2):
        raise ValueError(f"{op}: Expected input to be 1D or 2D, got {input.dim()}D instead")
    for i, state in enumerate(() if hx is None else hx):
        if state.dim() not in (1, 2):
            raise ValueError(f"{op}: Expected hx[{i}] to be 1D or 2D, got {state.dim()}D instead")
    if input.dim() == 1:
        input = input.unsqueeze(0)
        hx = None if hx is None else (hx[0].unsqueeze(0), hx[1].unsqueeze(0))
    if hx is not None and not isinstance(hx, tuple | list):
        raise TypeError(
            "lstm_cell(): argument 'hx' (position 2) must be tuple of Tensors, not "
            f"{type(hx).__name__}"
        )
    if hx is not None and len(hx) != 2:
        raise RuntimeError("lstm_cell expects two hidden states")
    if input.size(1) != input_size:
        raise RuntimeError(
            f"input has inconsistent input_size: got {input.size(1)} expected {input_size}"
        )
    for i, state in enumerate(() if hx is None else hx):
        if state.size(0) != input.size(0):
            raise RuntimeError(
                f"Input batch size {input.size(0)} doesn't match hidden{i} batch size "
                f"{state.size(0)}"
            )
        if state.size(1) != hidden_size:
            raise RuntimeError(
                f"hidden{i} has inconsistent hidden_size: got {state.size(1)}, expected "
                f"{hidden_size}"
            )
        if state.dim() != 2:
            raise RuntimeError(
                f"{op}: hx[{i}] must have 1 dimension for unbatched input, got {state.dim() - 1}"
            )
    return input, hx
