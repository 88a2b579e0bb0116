# SPDX-License-Identifier: Apache-2.0
"""Trains a step with the installed packages and compares it with plain torch.

`python smoke.py FOLDER [BACKEND]`: the packages must lie inside FOLDER, so that a checkout near by
cannot stand in for what was installed. Needs nothing but the packages.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

import ltlstm
import ltlstm_kernels
from ltlstm_kernels import plan
from tolerance import assert_all_close


def step(module: nn.Module, input: Tensor) -> dict[str, Tensor]:
    """Output, states and every gradient of one training step."""
    input = input.clone().requires_grad_()
    output, (h_n, c_n) = module(input)
    (output.square().sum() + h_n.sin().sum() + c_n.cos().sum()).backward()
    results = {"output": output, "h_n": h_n, "c_n": c_n, "d_input": input.grad}
    results |= {f"d_{name}": value.grad for name, value in module.named_parameters()}
    return results


def check(ours: nn.Module, plain: Callable[[torch.dtype], nn.Module]) -> None:
    """float32 against float64, no worse than twice what plain torch makes of it in float32."""
    input = torch.randn(6, 4, 5)
    others = []
    for dtype in (torch.float64, torch.float32):
        other = plain(dtype)
        other.load_state_dict(ours.state_dict())
        others.append(step(other, input.to(dtype)))
    assert_all_close(step(ours, input), *others)


def main(folder: str, backend: str | None = None) -> None:
    for package in (ltlstm, ltlstm_kernels):
        place = Path(package.__path__[0]).resolve()
        assert Path(folder).resolve() in place.parents, f"{package.__name__} came from {place}"
    shape = {"input_size": 5, "hidden_size": 7, "num_layers": 3, "bidirectional": True}
    torch.manual_seed(0)
    check(ltlstm.LSTM(**shape, backend=backend), lambda dtype: nn.LSTM(**shape, dtype=dtype))
    for kind in (ltlstm.LTLSTM, ltlstm.ResidualLSTM):
        check(
            kind(**shape, backend=backend),
            lambda dtype, kind=kind: kind(**shape, dtype=dtype, backend="reference"),
        )
    print(f"smoke: torch {torch.__version__}, backend {backend or 'auto'}")
    for name, library in ltlstm_kernels.libraries().items():
        print(f"smoke: {name} {library.error or 'loaded'}")
    if ltlstm_kernels.libraries()["_ops_cpu"].loaded:
        h100 = plan.assumed_facts(90, 132, 232_448, 65_536)
        planned = plan.make_plan(plan.Shape(512, 16, 512, 512), torch.bfloat16, h100)
        print(f"smoke: planned {planned.forward.regime}")


if __name__ == "__main__":
    main(*sys.argv[1:])
