# SPDX-License-Identifier: Apache-2.0
"""States of every wrong number, rank, type, dtype, device and size: an error, and never a crash.

Each module in a process of its own. There nn's module takes every call first, in a fork, because it
dies of some; where it raises, ours raises the same type.
"""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from child import run_alone
from ltlstm import functional

# All alike, so that what is one for another still passes a check of sizes.
T, N, D, H, L = 4, 3, 3, 3, 2
STACKS = ("LSTM", "LTLSTM", "ResidualLSTM", "HLSTM")
CELLS = ("LSTMCell", "HLSTMCell")
OTHERS = (torch.float64, torch.int64)
DIED, OK = "died", "ok"
REFUSALS = ("RuntimeError", "TypeError")


def outcome(call: Callable[..., object], *arguments: Any) -> tuple[str, str]:
    try:
        call(*arguments)
    except RuntimeError as error:  # NotImplementedError is one
        return "RuntimeError", str(error)
    except Exception as error:
        return type(error).__name__, str(error)
    return OK, ""


def forked(call: Callable[..., object], cases: list[tuple[Any, ...]]) -> list[tuple[str, str]]:
    """The outcomes in a process that may die of them, and in another from there on."""
    found: list[tuple[str, str]] = []
    while len(found) < len(cases):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            for case in cases[len(found) :]:
                os.write(write, f"{json.dumps(outcome(call, *case))}\n".encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as file:
            found += [tuple(json.loads(line)) for line in file]
        os.waitpid(child, 0)
        if len(found) < len(cases):
            found.append((DIED, ""))
    return found


def wrong_states(shape: tuple[int, ...]) -> Iterator[tuple[str, Any]]:
    """By name: no (h, c) of that shape."""
    h, c = torch.zeros(shape), torch.zeros(shape)
    yield from {
        "none": (None, None), "c none": (h, None), "empty": (), "one": (h,), "three": [h, c, c],
        "third of no rank": (h, c, torch.zeros(())), "int": 5, "words": "ab", "ints": (1, 2),
        "lists": (h.tolist(), c.tolist()), "numpy": (h.numpy(), c.numpy()),
        "one array": torch.stack([h, c]).numpy(), "stacked": torch.stack([h, c]), "tensor": h,
        "nested": ((h, c), (h, c)), "sparse": (h.to_sparse(), c.to_sparse()),
        "h meta": (h.to("meta"), c), "c meta": (h, c.to("meta")),
    }.items()  # fmt: skip
    for dtype in OTHERS:
        yield f"h {dtype}", (h.to(dtype), c)
        yield f"c {dtype}", (h, c.to(dtype))
    shapes: list[tuple[int, ...]] = [(), shape[1:], (1, *shape), (*shape[:-1], N, shape[-1])]
    for place in range(len(shape)):
        for change in (-1, 1):
            shapes.append((*shape[:place], shape[place] + change, *shape[place + 1 :]))
    for other in shapes:
        odd = torch.zeros(other)
        yield from ((f"h {other}", (odd, c)), (f"c {other}", (h, odd)), (f"{other}", (odd, odd)))


def forms(name: str) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Input, and the shape of its states."""
    x = torch.zeros(T, N, D)
    if name in CELLS:
        return {"batched": (x[0], (N, H)), "unbatched": (x[0, 0], (H,))}
    if name == "LTLSTMCell":
        return {"batched": (x[0], (L, N, H)), "unbatched": (x[0, 0], (L, H))}
    packed = pack_padded_sequence(x, [4, 2, 1])
    mixed = pack_padded_sequence(x, [1, 4, 2], enforce_sorted=False)
    return {
        "batched": (x, (L, N, H)), "unbatched": (x[:, 0], (L, H)), "packed": (packed, (L, N, H)),
        "unsorted": (mixed, (L, N, H)),
    }  # fmt: skip


def every_wrong_state(name: str) -> None:
    torch.set_num_threads(1)  # a fork has no other
    layers = () if name in CELLS else (L,)
    ours = getattr(ltlstm, name)(D, H, *layers)
    theirs: Any = nn.LSTMCell(D, H) if name in CELLS else nn.LSTM(D, H, L)
    faults = []
    for form, (x, shape) in forms(name).items():
        frame = x.unsqueeze(0) if name == "LTLSTMCell" else x
        mistakes = list(wrong_states(shape))
        wanted = forked(theirs, [(frame, hx) for _, hx in mistakes])
        for (mistake, hx), want in zip(mistakes, wanted, strict=True):
            for gradients in (True, False):  # without, a call may be direct
                with torch.set_grad_enabled(gradients):
                    found = outcome(ours, x, hx)
                if not fits(form, found, want):
                    faults.append((form, mistake, gradients, found, want))
    assert not faults, "\n".join(map(str, faults))


def fits(form: str, found: tuple[str, str], want: tuple[str, str]) -> bool:
    """Whether ours said what it should, where nn said ``want``."""
    if found[0] == want[0]:
        return True
    if want[0] in (DIED, OK):  # nn promotes some states and broadcasts others: ours names them
        return found[0] in REFUSALS
    # Packed, nn asks no states for their sizes, and what it says is chance.
    return form in ("packed", "unsorted") and "Expected hidden" in found[1]


@pytest.mark.parametrize("name", [*STACKS, *CELLS, "LTLSTMCell"])
def test_wrong_states(name: str) -> None:
    run_alone(every_wrong_state, name, PYTHONFAULTHANDLER="1")


def every_wrong_state_of_functions() -> None:
    x, shape = torch.zeros(T, N, D), (L, N, H)
    weights = [w.detach() for w in nn.LSTM(D, H, L).parameters()]
    gates = [w.detach() for w in ltlstm.HLSTM(D, H, L).parameters()]
    lane = [w.detach() for k, w in ltlstm.LTLSTM(D, H, L).named_parameters() if "traj" in k]
    one_step: Any = (x[0], weights[:4])
    calls: dict[str, tuple[Callable[[Any], object], tuple[int, ...]]] = {
        "lstm": (lambda hx: functional.lstm(x, hx, weights), shape),
        "residual_lstm": (lambda hx: functional.residual_lstm(x, hx, weights), shape),
        "lt_lstm": (lambda hx: functional.lt_lstm(x, hx, weights, lane), shape),
        "h_lstm": (lambda hx: functional.h_lstm(x, hx, gates), shape),
        "lstm_cell": (lambda hx: functional.lstm_cell(one_step[0], hx, *one_step[1]), (N, H)),
        "stream": (lambda hx: ltlstm.LTLSTM(D, H, L).stream(hx).push(x), shape),
    }
    faults = []
    for op, (call, states) in calls.items():
        for backend in ("auto", "aten", "reference"):
            for mistake, hx in wrong_states(states):
                if backend == "aten" and op in ("h_lstm", "stream"):
                    continue
                with ltlstm.use_backend(backend):
                    found = outcome(call, hx)
                promoted = op == "lstm_cell" and mistake.startswith("c torch")  # as in nn's
                # A stream is a module: it says what nn.LSTM says.
                refusals = REFUSALS + ("AttributeError", "IndexError") * (op == "stream")
                if found[0] not in refusals and not (promoted and found[0] == OK):
                    faults.append((op, backend, mistake, found))
    assert not faults, "\n".join(map(str, faults))


def test_wrong_states_of_functions() -> None:
    run_alone(every_wrong_state_of_functions, PYTHONFAULTHANDLER="1")
