# SPDX-License-Identifier: Apache-2.0
"""The CUDA kernels over independent rows, on the emulator, against the float64 reference: the
pointwise cell of the layer-LSTM, its peepholes' gradient, and the h that entered each row."""

from dataclasses import dataclass
from math import ceil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from emulated_time_lstm import unwritten
from emulator.builds import CSRC, KERNELS, build
from emulator.records import launch
from ltlstm.reference import cell
from tolerance import assert_all_close

CELL_FORWARD, CELL_BACKWARD, PEEPHOLE_GRADIENT, ENTERING_ROWS = range(4)
GRADIENTS = ("d_preact", "dc_prev", "d_peephole")


@dataclass(frozen=True)
class Rows:
    R: int
    H: int
    dtype: torch.dtype = torch.bfloat16
    peephole: bool = False
    first_layer: bool = False  # no c before it
    wider: int = 0  # columns of the product beside the pre-activations
    no_dc: bool = False

    def __str__(self) -> str:
        on = [name for name, value in vars(self).items() if value is True]
        kind = str(self.dtype).removeprefix("torch.")
        return "-".join([f"R{self.R}H{self.H}+{self.wider}", kind, *on])

    @property
    def stride(self) -> int:
        return 4 * self.H + self.wider

    def sizes(self, kernel: int) -> Tensor:
        bits = 8 * self.dtype.itemsize
        return torch.tensor([kernel, bits, self.R, self.H, self.stride, 3, 0, 0, 0])


CASES = [
    Rows(R=5, H=16),
    Rows(R=7, H=13, peephole=True),
    Rows(R=40, H=40, peephole=True, wider=160),
    Rows(R=9, H=24, first_layer=True, no_dc=True, wider=8),
    Rows(R=6, H=12, dtype=torch.float32, peephole=True),
    Rows(R=6, H=5, dtype=torch.float32, first_layer=True, no_dc=True),
]


@pytest.fixture(scope="module", params=["plain", "memory"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    return build([KERNELS / "rows.cpp", CSRC / "cuda" / "cell_rows.cu"], request.param, folder)


def inputs(p: Rows) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g).to(p.dtype)

    made = {"preact": draw(p.R, p.stride), "dr": draw(p.R, p.H)}
    if not p.first_layer:
        made["c_prev"] = draw(p.R, p.H).float()
    if not p.no_dc:
        made["dc"] = draw(p.R, p.H).float()
    if p.peephole:
        made["peephole"] = draw(3, p.H).float()
    return made


def reference(p: Rows, given: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    preact = given["preact"][:, : 4 * p.H].to(dtype, copy=True).requires_grad_()
    c_prev = given.get("c_prev", torch.zeros(p.R, p.H)).to(dtype, copy=True).requires_grad_()
    peephole = given["peephole"].to(dtype, copy=True).requires_grad_() if p.peephole else None
    r, c = cell(preact, c_prev, peephole)
    loss = (r * given["dr"].to(dtype)).sum()
    if "dc" in given:
        loss = loss + (c * given["dc"].to(dtype)).sum()
    wanted = [preact, c_prev, *([] if peephole is None else [peephole])]
    gradients = torch.autograd.grad(loss, wanted)
    found = dict(zip(GRADIENTS, gradients, strict=False))
    return found | {"r": r.detach(), "c": c.detach()}


@pytest.mark.parametrize("p", CASES, ids=str)
def test_cell(p: Rows, program: Path) -> None:
    given = inputs(p)
    outputs = {
        "r": unwritten(p.R, p.H, dtype=p.dtype),
        "c": unwritten(p.R, p.H, dtype=torch.float32),
        "gates": unwritten(p.R, 4 * p.H, dtype=p.dtype),
    }
    made = launch(program, {**given, **outputs, "sizes": p.sizes(CELL_FORWARD)}, 1)
    forward = {name: made[name] for name in outputs}
    outputs = {
        "d_preact": unwritten(p.R, p.stride, dtype=p.dtype),
        "dc_prev": unwritten(p.R, p.H, dtype=torch.float32),
        "r": unwritten(p.R, p.H, dtype=p.dtype),
    }
    read = {**given, "gates": forward["gates"], "c": forward["c"], **outputs}
    backward = launch(program, {**read, "sizes": p.sizes(CELL_BACKWARD)}, 1)
    # What lies beside the pre-activations in a wider product is somebody else's.
    assert backward["d_preact"][:, 4 * p.H :].isnan().all()
    found = {"r": forward["r"], "c": forward["c"], "dc_prev": backward["dc_prev"]}
    found["d_preact"] = backward["d_preact"][:, : 4 * p.H]
    if p.peephole:
        read["d_preact"] = backward["d_preact"]
        read["d_peephole"] = unwritten(ceil(p.R / 3), 3, p.H, dtype=torch.float32)
        made = launch(program, {**read, "sizes": p.sizes(PEEPHOLE_GRADIENT)}, 1)
        found["d_peephole"] = made["d_peephole"].sum(0)
    truth, plain = (reference(p, given, dtype) for dtype in (torch.float64, p.dtype))
    assert torch.equal(backward["r"].isnan(), torch.zeros(p.R, p.H, dtype=torch.bool))
    assert_all_close({name: x.to(p.dtype) for name, x in found.items()}, truth, plain)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("P", [5, 1500])  # the second is shared by blocks
def test_entering_rows(P: int, packed: bool, reverse: bool, program: Path) -> None:
    T, N, stride = 4, 3, P + 2
    batch_sizes = [3, 2, 2, 1] if packed else [N] * T
    offsets = [sum(batch_sizes[:t]) for t in range(T + 1)]
    g = torch.Generator().manual_seed(0)
    rows = offsets[-1]
    hidden, h0 = torch.randn(rows, stride, generator=g), torch.randn(N, P, generator=g)
    reset = torch.rand(rows, generator=g) < 0.3
    arrays = {"hidden": hidden, "h0": h0, "reset": reset}
    if packed:
        arrays |= {"batch_sizes": torch.tensor(batch_sizes), "offsets": torch.tensor(offsets)}
    arrays["h_prev"] = unwritten(rows, P, dtype=torch.float32)
    arrays["sizes"] = torch.tensor([ENTERING_ROWS, 32, rows, P, stride, 0, T, N, int(reverse)])
    found = launch(program, arrays, 1)["h_prev"]
    for t in range(T):
        before = t + 1 if reverse else t - 1
        for n in range(batch_sizes[t]):
            inside = 0 <= before < T and n < batch_sizes[before]
            h = hidden[offsets[before] + n, :P] if inside else h0[n]
            later = before if reverse else t
            if (inside or not reverse) and reset[offsets[later] + n]:
                h = torch.zeros(P)
            assert torch.equal(found[offsets[t] + n], h), (t, n)
