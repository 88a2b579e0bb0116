# SPDX-License-Identifier: Apache-2.0
"""ltlstm.functional.lstm_cell: one time step of one layer."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltlstm.functional.checks import check_pair
from ltlstm.functional.layer_lane import pointwise_cell
from ltlstm.functional.problem import python_only
from ltlstm_kernels.backend import Asked, choose
from ltlstm_kernels.measured import Sizes


def lstm_cell(
    input: Tensor,
    hx: tuple[Tensor, Tensor],
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    peephole: Tensor | None = None,
    *,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """input (N, D), hx = (h (N, H), c (N, H)) -> h, c; weights as in :func:`lstm`.

    Raises RuntimeError for shapes that do not fit and for a named backend that cannot run.
    Equivalent to::

        preact = linear(input, w_ih, b_ih) + linear(h, w_hh, b_hh)
        ltlstm.reference.cell(preact, c, peephole)
    """
    h, c = _state(input, hx, w_ih, w_hh)
    tensors = [t for t in (input, h, c, w_ih, w_hh, b_ih, b_hh, peephole) if t is not None]
    beyond_torch = () if peephole is None else ("peephole",)
    sizes = None
    if not torch._C._is_any_autocast_enabled():
        gradients = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        sizes = Sizes(1, c.shape[0], c.shape[-1], 1, gradients)
    asked = Asked(
        "lstm_cell", input.device.type, input.dtype, beyond_torch, python_only(tensors), None,
        sizes, device_index=input.device.index,
    )  # fmt: skip
    chosen = choose(backend, asked)
    if chosen == "aten":
        return torch._VF.lstm_cell(input, (h, c), w_ih, w_hh, b_ih, b_hh)
    preact = linear(input, w_ih, b_ih) + linear(h, w_hh, b_hh)
    return pointwise_cell(chosen, preact, c, peephole)


def _state(
    input: Tensor, hx: tuple[Tensor, Tensor], w_ih: Tensor, w_hh: Tensor
) -> tuple[Tensor, Tensor]:
    """hx, of shapes that would broadcast to nothing else."""
    check_pair("lstm_cell", hx, of="lstm_cell")
    N, H = input.shape[0], w_hh.shape[-1]
    for name, tensor, shape in (
        ("input", input, (N, w_ih.shape[-1])), ("h", hx[0], (N, H)), ("c", hx[1], (N, H)),
        ("w_ih", w_ih, (4 * H, w_ih.shape[-1])), ("w_hh", w_hh, (4 * H, H)),
    ):  # fmt: skip
        if tensor.shape != shape:
            raise RuntimeError(
                f"lstm_cell: {name} must have shape {shape}, got {tuple(tensor.shape)}"
            )
    return hx[0], hx[1]
