# SPDX-License-Identifier: Apache-2.0
"""ltlstm.functional.lstm_cell: one time step of one layer."""

import torch
from torch import Tensor
from torch.nn.functional import linear

from ltlstm.functional.layer_lane import pointwise_cell
from ltlstm.functional.problem import python_only
from ltlstm_kernels.backend import Asked, choose


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
    tensors = [input, *hx, w_ih, w_hh, *(t for t in (b_ih, b_hh, peephole) if t is not None)]
    beyond_torch = ["peephole"] if peephole is not None else []
    asked = Asked("lstm_cell", input.device.type, input.dtype, beyond_torch, python_only(tensors))
    chosen = choose(backend, asked)
    if chosen == "aten":
        return torch._VF.lstm_cell(input, hx, w_ih, w_hh, b_ih, b_hh)
    h, c = hx
    preact = linear(input, w_ih, b_ih) + linear(h, w_hh, b_hh)
    return pointwise_cell(chosen, preact, c, peephole)
