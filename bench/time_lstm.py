# SPDX-License-Identifier: Apache-2.0
"""ltlstm.LSTM beside torch.nn.LSTM: forward, and forward with backward, one line a case."""

from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import asdict

import torch
from torch import Tensor, nn

import ltlstm
from bench import record, timing
from ltlstm_kernels import backend
from tests.cases import Case
from tests.tolerance import assert_all_close, error

CASES = [Case(T=200, N=n, D=h, H=h) for h in (64, 256, 512) for n in (1, 16, 64)]


def _forward(module: nn.Module, input: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        return {"output": module(input)[0]}


def _forward_backward(module: nn.Module, input: Tensor) -> dict[str, Tensor]:
    parameters = dict(module.named_parameters())
    input = input.detach().requires_grad_()
    output = module(input)[0]
    gradients = torch.autograd.grad(output, [input, *parameters.values()], torch.ones_like(output))
    names = ["d_input", *(f"d_{name}" for name in parameters)]
    return {"output": output, **dict(zip(names, gradients, strict=True))}


MODES = {"forward": _forward, "forward+backward": _forward_backward}


def _modules(case: Case, device: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Ours, torch's, and torch's in float64, with the same weights."""
    sizes = (case.D, case.H, case.L)
    theirs = nn.LSTM(*sizes, device=device)
    ours = ltlstm.LSTM(*sizes, device=device)
    truth = nn.LSTM(*sizes, device=device, dtype=torch.float64)
    for module in (ours, truth):
        module.load_state_dict(theirs.state_dict())
    return ours, theirs, truth


def _synchronised(call: Callable[[], object], device: str) -> Callable[[], object]:
    if device != "cuda":
        return call

    def timed() -> None:
        call()
        torch.cuda.synchronize()

    return timed


def _rows(case: Case, device: str, seconds: float) -> Iterator[dict]:
    ours, theirs, truth = _modules(case, device)
    input = torch.randn(case.T, case.N, case.D, device=device)
    for mode, step in MODES.items():
        right = step(truth, input.double())
        mine, torchs = step(ours, input), step(theirs, input)
        assert_all_close(mine, right, torchs)  # nothing wrong is timed
        row = {
            "mode": mode,
            "case": asdict(case),
            "peer": "torch.nn.LSTM",
            "error": max(error(mine[name], right[name]) for name in right),
            "peer_error": max(error(torchs[name], right[name]) for name in right),
        }
        calls = {
            "ours": _synchronised(lambda step=step: step(ours, input), device),
            "peer": _synchronised(lambda step=step: step(theirs, input), device),
        }
        timings = timing.measure(calls, "peer", seconds)
        if timings is not None:
            for name, found in timings.items():
                row[f"{name}_median"] = found.median
                row[f"{name}_minimum"] = found.minimum
                row[f"{name}_samples"] = found.samples
        yield row


def run(options: Namespace) -> None:
    """Prints and appends every case whose name holds `options.only`, for each thread count."""
    asked = backend.Asked("lstm", options.device, torch.float32, (), None)
    shared = {
        **record.facts(options.device),
        "device": options.device,
        "dtype": "float32",
        "backend": backend.choose(None, asked),
    }
    print(f"time_lstm on {shared['processor']}, backend {shared['backend']}; ms a call, T steps")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for case in (case for case in CASES if options.only in str(case)):
            for row in _rows(case, options.device, options.seconds):
                label = f"{case!s:<20} {row['mode']:<16} threads {threads}"
                if "ours_median" not in row:
                    print(f"{label}  not reported: the machine was busy", flush=True)
                    continue
                record.append(options.out, "time_lstm", {**shared, "threads": threads, **row})
                print(
                    f"{label}  ours {1e3 * row['ours_median']:8.3f}"
                    f"  torch {1e3 * row['peer_median']:8.3f}"
                    f"  ratio {row['peer_median'] / row['ours_median']:5.2f}"
                    f" (minima {row['peer_minimum'] / row['ours_minimum']:5.2f})"
                    f"  error {row['error']:.1e}, torch's {row['peer_error']:.1e}",
                    flush=True,
                )
