# SPDX-License-Identifier: Apache-2.0
"""Other people's LSTMs on a GPU, where they are installed; CUDA graphs."""

from collections.abc import Callable

import torch

from bench.contenders import Data, Results
from bench.groups import Row
from bench.timing import Call


class Absent(Exception):
    """A peer that is not installed, or that cannot compute the row."""


def _plain(row: Row) -> None:
    c = row.case
    if c.L > 1 or c.dirs > 1 or c.P or c.packed or row.module != "LSTM":
        raise Absent("it computes one plain layer")


def flashrnn(row: Row, d: Data) -> Call:
    """FlashRNN's fused kernel, with the input product beside it as in every other contender."""
    _plain(row)
    try:
        from flashrnn import flashrnn as compute
    except ImportError as error:
        raise Absent(str(error)) from error
    w_ih, w_hh, b_ih, b_hh = d.weights
    T, N, H = row.case.T, row.case.N, row.case.H
    leaf = d.padded.detach().requires_grad_(row.mode == "training")
    recurrent = w_hh.reshape(4, 1, H, H).requires_grad_(row.mode == "training")
    bias = (b_ih + b_hh).reshape(4, 1, H)
    d_output = torch.randn_like(d.padded[..., :1].expand(T, N, H))

    def call() -> Results:
        preact = torch.nn.functional.linear(leaf, w_ih).transpose(0, 1)  # (N, T, 4H)
        states = compute(
            preact.reshape(N, T, 4, 1, H), recurrent, bias, function="lstm", backend="cuda_fused"
        )
        output = states[0][0, :, :, 0].transpose(0, 1)
        if row.mode == "forward":
            return (output,)
        return torch.autograd.grad(output, [leaf, recurrent], d_output)

    return Call(call)


def haste(row: Row, d: Data) -> Call:
    """haste's LSTM, which has float32 only."""
    _plain(row)
    try:
        import haste_pytorch
    except ImportError as error:
        raise Absent(str(error)) from error
    if row.dtype != torch.float32:
        raise Absent("it has float32 only")
    module = haste_pytorch.LSTM(row.case.D, row.case.H).to(d.padded.device)
    leaf = d.padded.detach().requires_grad_(row.mode == "training")
    d_output = torch.randn_like(module(leaf)[0])

    def call() -> Results:
        output = module(leaf)[0]
        if row.mode == "forward":
            return (output,)
        return torch.autograd.grad(output, [leaf, *module.parameters()], d_output)

    return Call(call)


def graphed(call: Call, device: str) -> Callable[[], object]:
    """The replay of a CUDA graph of the call; in a dry run the call."""
    if device == "cpu":
        return call.run
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call.run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call.run()
    return graph.replay
