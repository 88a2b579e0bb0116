# SPDX-License-Identifier: Apache-2.0
"""One table of problems for tests and benchmarks: sizes, options, and tensors to fit them.

Shape letters as in ltlstm.reference. Values are drawn in float32 and then cast, so that every
dtype computes the same problem.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    T: int
    N: int
    D: int
    H: int
    L: int = 1
    P: int = 0  # projection size; 0 is none
    bias: bool = True
    peephole: bool = False
    bidirectional: bool = False
    packed: bool = False
    reset: bool = False
    dropout: bool = False

    @property
    def dirs(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def out(self) -> int:
        """Output size of one direction."""
        return self.P or self.H

    @property
    def flags(self) -> dict[str, bool]:
        """The keyword arguments of the operators and of the reference."""
        return {
            "bias": self.bias,
            "projected": self.P > 0,
            "peephole": self.peephole,
            "bidirectional": self.bidirectional,
        }

    def __str__(self) -> str:
        sizes = "".join(f"{k}{getattr(self, k)}" for k in "TNDHL") + (f"P{self.P}" * (self.P > 0))
        options = [f.name for f in fields(self) if f.type in (bool, "bool")]
        on = [name for name in options if name != "bias" and getattr(self, name)]
        return "-".join([sizes, *on] + ["nobias"] * (not self.bias))

    def batch_sizes(self) -> Tensor | None:
        """Ragged on purpose; the longest row has length T, the shortest about a third of it."""
        if not self.packed:
            return None
        lengths = [self.T - (2 * self.T * n) // (3 * self.N) for n in range(self.N)]
        return torch.tensor([sum(length > t for length in lengths) for t in range(self.T)])

    @property
    def rows(self) -> tuple[int, ...]:
        """The shape ``*`` of the data: (T, N), or (S,) if packed."""
        sizes = self.batch_sizes()
        return (self.T, self.N) if sizes is None else (int(sizes.sum()),)


def _draw(g: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=g) * scale


def _group(case: Case, g: torch.Generator, d: int, h: int, p: int, recurrent: bool) -> list[Tensor]:
    """The weights of one cell, in flat order, with gains that neither saturate nor vanish."""
    group = [_draw(g, 4 * h, d, scale=d**-0.5)]
    if recurrent:
        group.append(_draw(g, 4 * h, p, scale=p**-0.5))
    if case.bias:
        group += [_draw(g, 4 * h, scale=0.5), _draw(g, 4 * h, scale=0.5)]
    if case.P:
        group.append(_draw(g, p, h, scale=h**-0.5))
    if case.peephole:
        group.append(_draw(g, 3, h, scale=0.5))
    return group


def arguments(case: Case, dtype: torch.dtype, lanes: int = 1, seed: int = 0) -> dict[str, Any]:
    """What the operators take, in order, as leaf tensors; lanes=2 adds the layer lane's weights."""
    g = torch.Generator().manual_seed(seed)
    width = case.dirs * case.out
    weights: list[Tensor] = []
    traj_weights: list[Tensor] = []
    for layer in range(case.L):
        for _ in range(case.dirs):
            d = width if layer else case.D
            weights += _group(case, g, d, case.H, case.out, recurrent=True)
        traj_weights += _group(case, g, width, case.dirs * case.H, width, recurrent=layer > 0)
    reset = torch.rand(case.rows, generator=g) < 0.2 if case.reset else None
    masks: list[Tensor] = []
    if case.dropout:
        for _ in range(case.L if lanes == 2 else case.L - 1):
            keep = torch.rand((*case.rows, width), generator=g) < 0.75
            masks.append((keep / 0.75).to(dtype))
    states = case.L * case.dirs
    made: dict[str, Any] = {
        "input": _draw(g, *case.rows, case.D).to(dtype),
        "h0": _draw(g, states, case.N, case.out).to(dtype),
        "c0": _draw(g, states, case.N, case.H).to(dtype),
        "weights": [w.to(dtype) for w in weights],
    }
    if lanes == 2:
        made["traj_weights"] = [w.to(dtype) for w in traj_weights]
    return made | {"masks": masks, "batch_sizes": case.batch_sizes(), "reset": reset}


EVERYTHING = Case(
    T=7, N=5, D=3, H=5, L=3, P=2,
    peephole=True, bidirectional=True, packed=True, reset=True, dropout=True,
)  # fmt: skip

# Correctness: sizes 1, odd primes, one over a power of two; no rows, one step, many steps; each
# option alone, then in company.
_base = Case(T=5, N=3, D=5, H=7, L=2)
CASES = [
    Case(T=1, N=1, D=1, H=1),
    Case(T=1, N=3, D=5, H=7, L=3),
    Case(T=4, N=0, D=3, H=5, L=2),
    Case(T=6, N=1, D=13, H=11, L=2),
    Case(T=3, N=17, D=9, H=33),
    Case(T=2, N=2, D=65, H=129, L=2),
    Case(T=1, N=2, D=5, H=77, L=2, P=35),  # weights are read unpacked
    Case(T=9, N=17, D=33, H=65, L=3, P=41, peephole=True, bidirectional=True, packed=True),
    _base,
    replace(_base, L=1),
    replace(_base, bias=False),
    replace(_base, P=3),
    replace(_base, P=7),
    replace(_base, P=19, reset=True, peephole=True),
    replace(_base, peephole=True),
    replace(_base, bidirectional=True),
    replace(_base, packed=True),
    replace(_base, reset=True),
    replace(_base, dropout=True),
    replace(_base, packed=True, reset=True, bidirectional=True),
    replace(_base, P=3, peephole=True, bias=False, bidirectional=True),
    EVERYTHING,
    replace(EVERYTHING, packed=False),
    replace(EVERYTHING, bidirectional=False),
    replace(EVERYTHING, bias=False, N=1),
]
# Large enough for threads to share the units of a layer and meet at every step.
TOGETHER = [
    Case(T=5, N=1, D=5, H=161, L=2),
    Case(T=5, N=1, D=5, H=193, L=2, P=131, peephole=True, reset=True, dropout=True),
    Case(T=4, N=5, D=3, H=640, packed=True, reset=True),
]
LONG = Case(T=2049, N=2, D=3, H=5, reset=True)
VERY_LONG = Case(T=65_600, N=1, D=1, H=1)  # more steps than 16 bits count, and whole 64s
