# SPDX-License-Identifier: Apache-2.0
"""Problems of the H-LSTM, and how its tests run one on the operator and on the reference.

As tests/cases.py and tests/operators.py, which serve the other stacks.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import ltlstm.autograd  # noqa: F401  (registers the gradients)
from cases import Case
from ltlstm import reference
from ltlstm_kernels import h_lstm_ops
from operators import F64, OUTPUTS, Named, run
from tolerance import assert_all_close

LEAKY = 0.01


@dataclass(frozen=True)
class HCase(Case):
    """J hidden layers of width K in each gate."""

    K: int = 4
    J: int = 1
    slope: float = LEAKY
    gate_dropout: bool = False

    @property
    def flags(self) -> dict[str, Any]:
        return {"bias": self.bias, "bidirectional": self.bidirectional, "slope": self.slope}

    def __str__(self) -> str:
        kind = "-relu" if self.slope == 0 else f"-slope{self.slope:g}" * (self.slope != LEAKY)
        return f"{super().__str__()}-K{self.K}J{self.J}{kind}"


EVERYTHING = HCase(
    T=7, N=5, D=3, H=5, L=3, K=6, J=2,
    bidirectional=True, packed=True, reset=True, dropout=True, gate_dropout=True,
)  # fmt: skip
BASE = HCase(T=5, N=3, D=5, H=7, L=2, K=6)
CASES = [
    HCase(T=1, N=1, D=1, H=1, K=1),
    HCase(T=1, N=3, D=5, H=7, L=3, K=9, J=2),
    HCase(T=4, N=0, D=3, H=5, L=2),
    HCase(T=6, N=1, D=13, H=11, L=2, K=17),
    HCase(T=3, N=17, D=9, H=33, K=65),
    HCase(T=2, N=2, D=65, H=129, L=2, K=31),
    HCase(T=3, N=7, D=5, H=31, K=129, J=3),
    BASE,
    replace(BASE, slope=0.0),
    replace(BASE, slope=1.0, J=2),
    replace(BASE, bias=False, J=2),
    replace(BASE, bidirectional=True),
    replace(BASE, packed=True),
    replace(BASE, reset=True),
    replace(BASE, dropout=True),
    replace(BASE, gate_dropout=True, slope=0.0),
    replace(BASE, packed=True, reset=True, bidirectional=True),
    EVERYTHING,
    replace(EVERYTHING, packed=False, slope=0.0),
    replace(EVERYTHING, bias=False, N=1, J=1),
]
# Large enough for threads to share the units of a layer and meet after every product.
TOGETHER = [
    HCase(T=5, N=1, D=5, H=161, L=2, K=97),
    HCase(T=5, N=1, D=5, H=193, K=211, J=2, reset=True, gate_dropout=True),
    HCase(T=4, N=5, D=3, H=320, K=321, packed=True, reset=True),
]
LONG = HCase(T=2049, N=2, D=3, H=5, K=4, reset=True)


def arguments(case: HCase, dtype: torch.dtype, seed: int = 0) -> dict[str, Any]:
    """What the operator takes, in order, as leaf tensors, drawn in float32 and then cast."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int, scale: float = 1.0) -> Tensor:
        return (torch.randn(shape, generator=g) * scale).to(dtype)

    def mask(*shape: int) -> Tensor:
        return ((torch.rand(shape, generator=g) < 0.75) / 0.75).to(dtype)

    K, H, wide = case.K, case.H, case.dirs * case.H
    weights: list[Tensor] = []
    for k in range(case.L * case.dirs):
        inputs = case.D if k < case.dirs else wide
        weights += [draw(4 * K, inputs, scale=inputs**-0.5), draw(4 * K, H, scale=H**-0.5)]
        weights += [draw(4 * K, scale=0.5)] * case.bias
        for out in [K] * (case.J - 1) + [H]:
            weights.append(draw(4, out, K, scale=(K / 2) ** -0.5))
            weights += [draw(4, out, scale=0.5)] * case.bias
    states = case.L * case.dirs
    return {
        "input": draw(*case.rows, case.D),
        "h0": draw(states, case.N, H),
        "c0": draw(states, case.N, H),
        "weights": weights,
        "masks": [mask(*case.rows, wide) for _ in range(case.L - 1)] if case.dropout else [],
        "gate_masks": mask(states * case.J, *case.rows, 4 * K) if case.gate_dropout else None,
        "batch_sizes": case.batch_sizes(),
        "reset": torch.rand(case.rows, generator=g) < 0.2 if case.reset else None,
    }


def raw(made: dict[str, Any]) -> dict[str, Any]:
    """The arguments as the bare operator takes them: masks stacked, or None."""
    return made | {"masks": torch.stack(made["masks"]) if made["masks"] else None}


def call(case: HCase, made: dict[str, Any], save: bool = True) -> tuple[Tensor, ...]:
    """The operator's outputs as they come."""
    return h_lstm_ops.h_lstm_forward(**made, **case.flags, save=save)


def operator(case: HCase, made: dict[str, Any]) -> Named:
    return dict(zip(OUTPUTS, call(case, made)[:5], strict=True))


def oracle(case: HCase, made: dict[str, Any]) -> Named:
    output, h_n, c_n, hidden, cells = reference.h_lstm(**made, **case.flags)
    return dict(zip(OUTPUTS, (output, h_n, c_n, hidden[:-1], cells), strict=True))


def check(case: HCase, dtype: torch.dtype, paths: tuple[str, ...] = OUTPUTS) -> None:
    """The operator against the reference: the outputs and every gradient, by the two-times rule."""
    assert_all_close(
        run(operator, case, arguments(case, dtype), paths),
        run(oracle, case, arguments(case, F64), paths),
        run(oracle, case, arguments(case, torch.float32), paths),
    )
