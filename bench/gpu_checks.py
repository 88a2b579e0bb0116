# SPDX-License-Identifier: Apache-2.0
"""The stages of bench/gpu.sh that pass or fail: the library, the tests, parity with nn.LSTM, the
wrappers of PTX, the sanitizers."""

import copy
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import ltlstm
from bench import gpu_wrappers, record
from bench.gpu_target import Skipped, Target, environment
from tests.tolerance import assert_close

TESTS = ("tests/test_lstm_parity.py", "tests/test_lt_lstm.py", "tests/test_operators.py")
# Of a dry run: emulated kernels take seconds where a GPU takes none.
DRY_TESTS = ("tests/test_residual_lstm.py",)


def _run(command: Sequence[str], target: Target) -> None:
    """Shows what the program says; raises RuntimeError where it fails."""
    print("+", *command, flush=True)
    run = subprocess.run(command, cwd=record.ROOT, env=environment(target))
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: exit status {run.returncode}")


_ANY_CALL = """
import torch, ltlstm
module = ltlstm.LSTM(8, 8, device={0!r}, dtype=torch.bfloat16, backend={1!r})
print(module(torch.ones(2, 1, 8, device={0!r}, dtype=torch.bfloat16))[0].isfinite().all().item())
"""


def library(target: Target) -> None:
    """Takes the library built beforehand if it has a kernel for this device, else builds it."""
    call = [sys.executable, "-c", _ANY_CALL.format(target.device, target.backend)]
    if target.emulated:
        return exec(call[-1], {})
    try:
        return _run(call, target)
    except RuntimeError as error:
        print(error)
    print("the library at hand does not run on this device: building one", flush=True)
    build = [sys.executable, "setup.py", "build_ext", "--inplace"]
    subprocess.run(build, cwd=record.ROOT, env={**os.environ, "LTLSTM_CUDA": "1"}, check=True)
    _run(call, target)


def suite(target: Target) -> None:
    """The tests that run on the device, or in a dry run those of the emulated kernels."""
    wanted = DRY_TESTS if target.emulated else TESTS if target.quick else ("tests",)
    there = [name for name in wanted if (record.ROOT / name).exists()]
    if len(there) < len(wanted):
        raise RuntimeError(f"missing: {', '.join(set(wanted) - set(there))}")
    marks = [] if target.emulated else ["-m", "gpu"]
    _run([sys.executable, "-m", "pytest", "-q", "-x" if target.emulated else "-ra", *marks, *there],
         target)  # fmt: skip


def _options() -> list[dict[str, bool]]:
    names = ("bias", "bidirectional", "batch_first", "packed", "projected")
    return [
        dict(zip(names, values, strict=True))
        for values in itertools.product((True, False), repeat=len(names))
    ]


def _results(module: nn.Module, x: Tensor, options: dict[str, bool]) -> list[Tensor]:
    """Everything a call gives, and the gradient of everything it took."""
    x = x.detach().clone().requires_grad_()
    batch = 0 if options["batch_first"] else 1
    given: Tensor | PackedSequence = x
    if options["packed"]:
        steps = x.shape[1 - batch]
        lengths = torch.tensor([max(steps - n, 1) for n in range(x.shape[batch])])
        given = pack_padded_sequence(x, lengths, batch_first=options["batch_first"])
    output, (h, c) = module(given)
    output = output.data if options["packed"] else output
    g = torch.Generator().manual_seed(2)
    loss = sum((t * torch.randn(t.shape, generator=g).to(t)).sum() for t in (output, h, c))
    assert isinstance(loss, Tensor)
    loss.backward()
    gradients = [p.grad for p in (x, *module.parameters())]
    assert all(gradient is not None for gradient in gradients)
    return [output, h, c, *(gradient for gradient in gradients if gradient is not None)]


def parity(target: Target) -> None:
    """Our kernels against nn.LSTM: every combination of its options, in each dtype, as planned and
    streamed, by the rule of the tests: at most twice nn.LSTM's own error against float64."""
    T, N, D, H, L = (3, 2, 4, 16, 1) if target.emulated else (19, 11, 24, 40, 2)
    dtypes = (torch.bfloat16, torch.float16, torch.float32)
    combinations = list(itertools.product(dtypes, ("", "streamed"), _options()))
    if target.quick or target.emulated:
        combinations = combinations[::9]
    failed = {}
    for dtype, regime, options in combinations:
        on = [key for key, on in options.items() if on]
        name = " ".join([str(dtype)[6:], *([regime] if regime else []), *on])
        given = {k: options[k] for k in ("bias", "bidirectional", "batch_first")}
        given["proj_size"] = H // 2 if options["projected"] else 0
        try:
            torch.manual_seed(1)
            truth = nn.LSTM(D, H, L, **given, device=target.device, dtype=torch.float64)
            shape = (N, T, D) if options["batch_first"] else (T, N, D)
            x = torch.randn(shape, device=target.device, dtype=torch.float64)
            with torch.no_grad():  # truth is of the values as rounded
                for p in truth.parameters():
                    p.copy_(p.to(dtype))
            x = x.to(dtype).double()
            plain = nn.LSTM(D, H, L, **given, device=target.device, dtype=dtype)
            ours = ltlstm.LSTM(
                D, H, L, **given, device=target.device, dtype=dtype, backend=target.backend
            )
            for module in (plain, ours):
                module.load_state_dict(truth.state_dict())
            true = _results(truth, x, options)
            theirs = _results(plain, x.to(dtype), options)
            with mock.patch.dict(os.environ, LTLSTM_CUDA_REGIME=regime):
                found = _results(ours, x.to(dtype), options)
            for i, results in enumerate(zip(found, true, theirs, strict=True)):
                assert_close(*results, name=f"result {i}")
        except Exception as error:  # whatever it is, the other combinations still run
            failed[name] = f"{type(error).__name__}: {error}"
            print(f"{name}: {failed[name]}", flush=True)
    target.write({"group": "parity", "combinations": len(combinations), "failed": failed})
    if failed:
        first = next(iter(failed.items()))
        raise RuntimeError(f"{len(failed)} of {len(combinations)} fail; {first[0]}: {first[1]}")


def wrappers(target: Target) -> None:
    """Each wrapper of a PTX instruction on this device gives what its emulation gives."""
    gpu_wrappers.compare(target)


def second_device(target: Target) -> None:
    """Calls on cuda:1 while cuda:0 is the current device give what they give on cuda:0, bit for
    bit."""
    if target.emulated or torch.cuda.device_count() < 2:
        raise Skipped("one device: it needs tensors on a second while the first is current")
    options = dict.fromkeys(("batch_first", "packed"), False)
    for made in (ltlstm.LSTM, ltlstm.LTLSTM):
        torch.manual_seed(1)
        module = made(72, 256, 2, dtype=torch.bfloat16, backend=target.backend)
        x = torch.randn(19, 5, 72, dtype=torch.bfloat16)
        results = []
        for device in ("cuda:0", "cuda:1"):
            found = _results(copy.deepcopy(module).to(device), x.to(device), options)
            assert torch.cuda.current_device() == 0, "the current device was changed"
            results.append([t.cpu() for t in found])
        same = [torch.equal(a, b) for a, b in zip(*results, strict=True)]
        target.write({"group": "second", "module": made.__name__, "same": same})
        if not all(same):
            raise RuntimeError(f"{made.__name__}: result {same.index(False)} differs on cuda:1")


# What the sanitizers watch: every regime, both passes, ragged rows.
_SMALL = """
import torch, ltlstm
from torch.nn.utils.rnn import pack_padded_sequence
for H in (16, 72, 256, 520, 2400):
    m = ltlstm.LSTM(H, H, device="cuda", dtype=torch.bfloat16, backend="cuda")
    x = torch.randn(4, 5, H, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    m(x)[0].float().sum().backward()
    m(pack_padded_sequence(x, [4, 4, 3, 2, 1]))[0].data.float().sum().backward()
torch.cuda.synchronize()
"""


def _sanitizer(tool: str) -> Callable[[Target], None]:
    def stage(target: Target) -> None:
        program = next((str(path) for path in _sanitizers() if path.exists()), "compute-sanitizer")
        options = [
            "--tool",
            tool,
            "--error-exitcode",
            "9",
            "--kernel-name",
            "kernel_substring=ltlstm",
        ]
        _run([program, *options, sys.executable, "-c", _SMALL], target)

    return stage


def _sanitizers() -> list[Path]:
    home = Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"))
    return [home / "bin" / "compute-sanitizer", home / "compute-sanitizer" / "compute-sanitizer"]


memcheck, racecheck, synccheck = map(_sanitizer, ("memcheck", "racecheck", "synccheck"))
