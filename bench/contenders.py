# SPDX-License-Identifier: Apache-2.0
"""What stands beside what in a row: calls that compute it by our modules and by each peer.

Modules, data and gradients' targets are made here, outside of what is timed. Every call starts
from given states, as one that carries them does.
"""

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, linear
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import ltlstm
from bench import onnx_lstm
from bench.groups import (
    AUTO,
    CELL,
    CELL_LOOP,
    CPU,
    DENSE,
    EAGER,
    LANES_OFF,
    LANES_ON,
    MEAN_LENGTH,
    MV,
    ONE_THREAD,
    ONNX,
    OUR_LSTM,
    PADDED,
    TORCH,
    TORCH_PADDED,
    TORCH_PLAIN,
    Row,
)  # fmt: skip
from bench.timing import Call
from ltlstm_kernels import ops
from tests.cases import Case, arguments
from tests.sparse_masks import mask_of

State = tuple[Tensor, Tensor]
Results = tuple[Tensor, ...]  # the output; with gradients, of the input and of each parameter too


class Contender(NamedTuple):
    """A call, and whether it computes the row's own problem: what does not bears no error."""

    call: Call
    comparable: bool = True


class Data(NamedTuple):
    """A row's problem in one dtype."""

    input: Tensor | PackedSequence
    padded: Tensor  # (T, N, D)
    hx: State
    weights: list[Tensor]  # of the time lane, and then of the layer lane


def lengths(case: Case) -> Tensor:
    """Of packed rows: evenly from T down, with the mean that the bench is about."""
    shortest = 2 * MEAN_LENGTH - 1
    return torch.linspace(case.T, shortest * case.T, case.N).round().long()


def data(row: Row, dtype: torch.dtype, device: str = "cpu") -> Data:
    """In the row's own dtype first, and then cast: truth is of the values as rounded."""
    padded = replace(row.case, packed=False)
    made = arguments(padded, row.dtype, lanes=2 if row.module == "LTLSTM" else 1)
    input, h0, c0 = (made[name].to(device, dtype) for name in ("input", "h0", "c0"))
    weights = [*made["weights"], *made.get("traj_weights", [])]
    if row.module == "HLSTM":
        with torch.random.fork_rng():
            torch.manual_seed(0)
            start = ltlstm.HLSTM(row.case.D, row.case.H, row.case.L, dtype=row.dtype)
        weights = [p.detach() for p in start.parameters()]
    weights = [w.to(device, dtype) for w in weights]
    packed = pack_padded_sequence(input, lengths(row.case)) if row.case.packed else input
    return Data(packed, input, (h0, c0), weights)


def module(kind: Callable[..., nn.Module], row: Row, d: Data, **options: Any) -> nn.Module:
    """A module of the row's sizes with the row's weights, where the data are."""
    c = row.case
    made = kind(c.D, c.H, c.L, dtype=d.hx[0].dtype, device=d.hx[0].device, **options)
    count = len(list(made.parameters()))  # a module without a layer lane takes the time lane's
    with torch.no_grad():
        for parameter, weight in zip(made.parameters(), d.weights[:count], strict=True):
            parameter.copy_(weight)
        if row.pattern:
            made.eval()
            for seed, mask in enumerate(made.buffers()):
                mask.copy_(mask_of(row.pattern, mask.shape, row.density, seed))
            return made.compile_sparse() or made
    return made


def step(row: Row, made: nn.Module, input: Tensor | PackedSequence, hx: State) -> Call:
    """The call that the row's mode asks for."""
    if row.mode == "forward":

        def forward() -> Results:
            output = made(input, hx)[0]
            return (output.data if row.case.packed else output,)

        return Call(forward)
    packed = isinstance(input, PackedSequence)
    leaf = (input.data if packed else input).detach().requires_grad_()
    given = PackedSequence(leaf, *input[1:]) if packed else leaf
    wanted = [leaf, *made.parameters()]
    g = torch.Generator().manual_seed(1)
    d_output = torch.randn((*leaf.shape[:-1], row.case.H), generator=g).to(leaf)

    def training() -> Results:
        output = made(given, hx)[0]
        output = output.data if packed else output
        return (output, *torch.autograd.grad(output, wanted, d_output))

    return Call(training)


class _CellLoop(nn.Module):
    """nn.LSTMCell over the steps, with nn.LSTM's constructor and results."""

    def __init__(self, D: int, H: int, L: int, **factory: Any) -> None:
        assert L == 1
        super().__init__()
        self.cell = nn.LSTMCell(D, H, **factory)

    def forward(self, input: Tensor, hx: State) -> tuple[Tensor, State]:
        h, c = hx[0][0], hx[1][0]
        outputs = []
        for x in input.unbind(0):
            h, c = self.cell(x, (h, c))
            outputs.append(h)
        return torch.stack(outputs), (h, c)


class _EagerCells(nn.Module):
    """A dense H-LSTM as one writes it: the inputs' product at once, then two products a step."""

    def __init__(self, D: int, H: int, L: int, **factory: Any) -> None:
        assert L == 1
        super().__init__()
        shapes = ((4 * H, D), (4 * H, H), (4 * H,), (4, H, H), (4, H))
        self.weights = nn.ParameterList([torch.empty(s, **factory) for s in shapes])

    def forward(self, input: Tensor, hx: State) -> tuple[Tensor, State]:
        w_ih, w_hh, b, w, b_later = self.weights
        h, c = hx[0][0], hx[1][0]
        outputs = []
        for z in linear(input, w_ih, b).unbind(0):
            a = leaky_relu(z + linear(h, w_hh)).unflatten(-1, (4, -1)).transpose(0, 1)
            i, f, g, o = torch.baddbmm(b_later[:, None], a, w.transpose(1, 2)).unbind(0)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            outputs.append(h)
        return torch.stack(outputs), (h, c)


def _cell(row: Row, d: Data) -> Call:
    """One step by nn.LSTMCell as one calls it, with no loop around."""
    cell = module(_CellLoop, row, d).cell
    x, hx = d.padded[0], (d.hx[0][0], d.hx[1][0])
    return Call(lambda: (cell(x, hx)[0],))


def _mv(row: Row, d: Data) -> Call:
    matrix = torch.cat(d.weights[:2], dim=1)  # (4H, D + H)
    vector = torch.cat([d.padded[0, 0], d.hx[0][0, 0]])
    return Call(lambda: (torch.mv(matrix, vector),))


def _ours(row: Row, d: Data, name: str | None) -> Call:
    return step(row, module(getattr(ltlstm, row.module), row, d, backend=name), d.input, d.hx)


def _lanes(row: Row, d: Data, on: bool) -> Call:
    """The layer trajectory's operator itself, its lanes side by side or one after the other."""
    count = 4 * row.case.L  # weights of the time lane
    weights = d.weights[:count], d.weights[count:]
    flags = {**row.case.flags, "save": False, "lanes": on}
    return Call(
        lambda: (ops.lt_lstm_forward(d.padded, *d.hx, *weights, [], None, None, **flags).output,)
    )


def chosen(row: Row, d: Data) -> str:
    """The backend that serves the row where none is named."""
    made = module(getattr(ltlstm, row.module), row, d)
    served = ltlstm.explain(made, d.input, d.hx).backend
    assert served is not None
    return served


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pin(cores: Collection[int]) -> None:
    for thread in os.listdir("/proc/self/task"):  # those that wait for work too
        with suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)


@contextmanager
def _one_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    _pin({min(before)})
    try:
        yield
    finally:
        _pin(before)


# Held around our own call; a row that is not crowded has neither.
_CROWDS: dict[str, Callable[[], AbstractContextManager]] = {
    "": nullcontext,
    "twice the threads": lambda: _threads(2 * len(os.sched_getaffinity(0))),
    "one core": _one_core,
}


@contextmanager
def _without_onednn() -> Iterator[None]:
    # Not mkldnn.flags(): it sets allow_tf32 too, which warns where there is no Intel GPU.
    torch.backends.mkldnn.enabled = False
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = True


def contenders(row: Row, d: Data, threads: int) -> dict[str, Contender]:
    """Ours and every peer of the row that is installed. `auto` is timed where it is not `cpu`."""
    lstm = partial(module, nn.LSTM, row, d)
    same = row.module == "LSTM"  # a peer that is an LSTM computes the row's own problem
    padded = replace(row, case=replace(row.case, packed=False))
    lstm_row = replace(row, module="LSTM")
    our = data(lstm_row, row.dtype) if row.module == "HLSTM" else d  # others hold its weights
    make: dict[str, Callable[[], Contender]] = {
        CPU: lambda: Contender(_ours(row, d, "cpu")._replace(around=_CROWDS[row.crowd])),
        ONE_THREAD: lambda: Contender(
            _ours(row, d, "cpu")._replace(around=partial(_threads, 1)), comparable=False
        ),
        AUTO: lambda: Contender(_ours(row, d, None)),
        TORCH: lambda: Contender(step(row, lstm(), d.input, d.hx), same),
        TORCH_PLAIN: lambda: Contender(
            step(row, lstm(), d.input, d.hx)._replace(around=_without_onednn), same
        ),
        CELL: lambda: Contender(_cell(row, d)),
        CELL_LOOP: lambda: Contender(step(row, module(_CellLoop, row, d), d.input, d.hx)),
        ONNX: lambda: Contender(
            Call(onnx_lstm.forward(row.case, d.padded, *d.hx, d.weights, threads))
        ),
        LANES_ON: lambda: Contender(_lanes(row, d, on=True)),
        LANES_OFF: lambda: Contender(_lanes(row, d, on=False)),
        DENSE: lambda: Contender(_ours(replace(row, pattern=""), d, "cpu"), comparable=False),
        EAGER: lambda: Contender(step(row, module(_EagerCells, row, d), d.input, d.hx)),
        MV: lambda: Contender(_mv(row, d), comparable=False),
        OUR_LSTM: lambda: Contender(
            step(lstm_row, module(ltlstm.LSTM, lstm_row, our, backend="cpu"), d.input, d.hx), False
        ),
        PADDED: lambda: Contender(
            step(padded, module(ltlstm.LSTM, row, d, backend="cpu"), d.padded, d.hx), False
        ),
        TORCH_PADDED: lambda: Contender(step(padded, lstm(), d.padded, d.hx), False),
    }
    names = [CPU, *[AUTO] * (chosen(row, d) != CPU), *row.peers]
    return {name: make[name]() for name in names if name != ONNX or onnx_lstm.missing is None}


def plain(row: Row, dtype: torch.dtype, device: str = "cpu") -> Results:
    """The row by plain torch: its truth in float64, and the error to expect in its own dtype."""
    d = data(row, dtype, device)
    if row.module != "LSTM":
        return _ours(row, d, "reference").run()
    return step(row, module(nn.LSTM, row, d), d.input, d.hx).run()
