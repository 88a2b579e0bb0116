# SPDX-License-Identifier: Apache-2.0
"""Our kernels against nn.LSTM and float64: every combination of options, every regime, a second
device. The rule is that of the tests: at most twice nn.LSTM's own error against float64."""

import copy
import itertools
import os
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import ltlstm
from bench.gpu.device import without_tf32
from bench.gpu.target import Skipped, Target
from ltlstm_kernels import plan
from tests.tolerance import assert_close, error

Options = dict[str, bool]
NAMES = ("bias", "bidirectional", "batch_first", "packed", "projected")
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


class Sizes(NamedTuple):
    T: int
    N: int
    D: int
    H: int
    L: int = 1


def results(module: nn.Module, x: Tensor, options: Options) -> list[Tensor]:
    """Everything a call gives, and the gradient of everything it took."""
    x = x.detach().clone().requires_grad_()
    batch = 0 if options["batch_first"] else 1
    given: Tensor | PackedSequence = x
    if options["packed"]:
        steps = x.shape[1 - batch]
        lengths = torch.tensor([max(steps - n, 1) for n in range(x.shape[batch])])
        given = pack_padded_sequence(x, lengths, batch_first=options["batch_first"])
    module.zero_grad()
    output, (h, c) = module(given)
    output = output.data if options["packed"] else output
    g = torch.Generator().manual_seed(2)
    loss = sum((t * torch.randn(t.shape, generator=g).to(t)).sum() for t in (output, h, c))
    assert isinstance(loss, Tensor)
    loss.backward()
    gradients = [p.grad for p in (x, *module.parameters())]
    assert all(gradient is not None for gradient in gradients)
    return [output, h, c, *(gradient for gradient in gradients if gradient is not None)]


def check(target: Target, dtype: torch.dtype, sizes: Sizes, options: Options) -> dict[str, float]:
    """The largest errors against float64. Raises AssertionError where ours breaks the rule, or
    gives other bits when it is called again."""
    T, N, D, H, L = sizes
    given: dict[str, Any] = {k: options[k] for k in ("bias", "bidirectional", "batch_first")}
    given["proj_size"] = H // 2 if options["projected"] else 0
    torch.manual_seed(1)
    truth = nn.LSTM(D, H, L, **given, device=target.device, dtype=torch.float64)
    shape = (N, T, D) if options["batch_first"] else (T, N, D)
    x = torch.randn(shape, device=target.device, dtype=torch.float64)
    with torch.no_grad():  # truth is of the values as rounded
        for p in truth.parameters():
            p.copy_(p.to(dtype))
    x = x.to(dtype).double()
    plain = nn.LSTM(D, H, L, **given, device=target.device, dtype=dtype)
    ours = ltlstm.LSTM(D, H, L, **given, device=target.device, dtype=dtype, backend=target.backend)
    for module in (plain, ours):
        module.load_state_dict(truth.state_dict())
    true = results(truth, x, options)
    with without_tf32():
        theirs = results(plain, x.to(dtype), options)
    found, again = (results(ours, x.to(dtype), options) for _ in range(2))
    for i, triple in enumerate(zip(found, true, theirs, strict=True)):
        assert_close(*triple, name=f"result {i}")
    same = [torch.equal(a, b) for a, b in zip(found, again, strict=True)]
    assert all(same), f"result {same.index(False)} has other bits in the second of two calls"
    return {
        name: max(error(a, b) for a, b in zip(of, true, strict=True))
        for name, of in (("ours", found), ("torch", theirs))
    }


# Each regime, and the sizes of cluster that behave apart: more than 8 blocks are not portable.
REGIMES = (("block", 1), ("cluster", 8), ("cluster", 16), ("grid", 0), ("streamed", 0))


def _width(target: Target, regime: str, blocks: int) -> tuple[int, str]:
    """A hidden size that the plan gives this regime, and this many blocks, in both passes; and what
    the plan says of it."""
    widths = range(16, 545, 16) if target.emulated else (1024, 512, 384, 256, 192, 128, 72, 64)
    for H in widths:
        shape = plan.Shape(8, 16, H, H, training=True)
        found = plan.make_plan(shape, torch.bfloat16, target.plan_facts(), regimes=(regime,))
        passes = (found.forward, found.backward)
        if all(p.regime == regime and blocks in (0, p.blocks) for p in passes):
            return H, found.reason
    raise RuntimeError(f"no plan has {blocks} blocks in the regime {regime}")


def regimes(target: Target) -> None:
    """One operator of each regime, forward and backward, padded and packed."""

    def run(regime: str, blocks: int, packed: bool, dtype: torch.dtype) -> dict[str, Any]:
        H, reason = _width(target, regime, blocks)
        sizes = Sizes(3, 2, 8, H) if target.emulated else Sizes(48, 16, 64, H)
        options = dict.fromkeys(NAMES, False) | {"bias": True, "packed": packed}
        line = {"H": H, "plan": reason}
        with mock.patch.dict(os.environ, LTLSTM_CUDA_REGIME=regime):
            try:
                return line | {"errors": check(target, dtype, sizes, options)}
            except Exception as problem:
                return line | {"error": f"{type(problem).__name__}: {problem}"}

    items = {}
    for (regime, blocks), packed in itertools.product(REGIMES, (False, True)):
        name = f"{regime}{f' of {blocks}' if blocks else ''}{', packed' if packed else ''}"
        items[name] = partial(run, regime, blocks, packed, torch.bfloat16)
    for regime in ("block", "grid"):
        items[f"{regime}, float32"] = partial(run, regime, 0, False, torch.float32)
    target.each("regimes", items)


def parity(target: Target) -> None:
    """Every combination of nn.LSTM's options, in each dtype, as planned and streamed."""
    sizes = Sizes(3, 2, 4, 16) if target.emulated else Sizes(19, 11, 24, 40, 2)
    every = [
        dict(zip(NAMES, values, strict=True))
        for values in itertools.product((True, False), repeat=len(NAMES))
    ]
    if target.quick or target.emulated:
        every = every[::9]

    def run(dtype: torch.dtype, regime: str) -> dict[str, Any]:
        failed = {}
        for options in every:
            try:
                with mock.patch.dict(os.environ, LTLSTM_CUDA_REGIME=regime):
                    check(target, dtype, sizes, options)
            except Exception as problem:  # whatever it is, the other combinations still run
                name = " ".join(key for key, on in options.items() if on)
                failed[name] = f"{type(problem).__name__}: {problem}"
        line: dict[str, Any] = {"combinations": len(every), "failed": failed}
        if failed:
            name, why = next(iter(failed.items()))
            line["error"] = f"{len(failed)} of {len(every)}; {name}: {why}"
        return line

    target.each(
        "parity",
        {
            f"{str(dtype)[6:]} {regime or 'as planned'}": partial(run, dtype, regime)
            for dtype, regime in itertools.product(DTYPES, ("", "streamed"))
        },
    )


def second_device(target: Target) -> None:
    """Calls on cuda:1 while cuda:0 is the current device give what they give on cuda:0, bit for
    bit."""
    target.need_device()
    if target.emulated or torch.cuda.device_count() < 2:
        raise Skipped("one device: it needs tensors on a second while the first is current")
    options = dict.fromkeys(NAMES, False)
    for made in (ltlstm.LSTM, ltlstm.LTLSTM):
        torch.manual_seed(1)
        module = made(72, 256, 2, dtype=torch.bfloat16, backend=target.backend)
        x = torch.randn(19, 5, 72, dtype=torch.bfloat16)
        both = []
        for device in ("cuda:0", "cuda:1"):
            found = results(copy.deepcopy(module).to(device), x.to(device), options)
            assert torch.cuda.current_device() == 0, "the current device was changed"
            both.append([t.cpu() for t in found])
        same = [torch.equal(a, b) for a, b in zip(*both, strict=True)]
        target.write({"group": "second", "module": made.__name__, "same": same})
        if not all(same):
            raise RuntimeError(f"{made.__name__}: result {same.index(False)} differs on cuda:1")
