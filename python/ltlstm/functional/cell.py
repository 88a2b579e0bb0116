# SPDX-License-Identifier: Apache-2.0
"""ltlstm.functional.lstm_cell: one time step of one layer."""

import torch
from torch import Tensor
from torch.nn.functional import linear

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

    Raises RuntimeError for a named backend that cannot run. Equivalent to::

        preact = linear(input, w_ih, b_ih) + linear(h, w_hh, b_hh)
        ltlstm.reference.cell(preact, c, peephole)
    """
    h, c = hx
    tensors = [t for t in (input, h, c, w_ih, w_hh, b_ih, b_hh, peephole) if t is not None]
    beyond_torch = () if peephole is None else ("peephole",)
    sizes = None
    if not torch._C._is_any_autocast_enabled():
        gradients = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        sizes = Sizes(1, c.shape[0], c.shape[-1], 1, gradients)
    asked = Asked(
        "lstm_cell", input.device.type, input.dtype, beyond_torch, python_only(tensors), None,
        sizes, index=input.device.index,
    )  # fmt: skip
    chosen = choose(backend, asked)
    if chosen == "aten":
        return torch._VF.lstm_cell(input, hx, w_ih, w_hh, b_ih, b_hh)
    preact = linear(input, w_ih, b_ih) + linear(h, w_hh, b_hh)
    return pointwise_cell(chosen, preact, c, peephole)
