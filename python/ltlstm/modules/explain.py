# SPDX-License-Identifier: Apache-2.0
"""ltlstm.explain: which backend would serve a call, and why no other."""

from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ltlstm.modules.cells import LSTMCell
from ltlstm.modules.h_lstm import HLSTMCell
from ltlstm.modules.recurrent import Recurrent, State
from ltlstm_kernels import backend as backends


class Explanation(NamedTuple):
    """Printed, it is a line a backend."""

    backend: str | None  # which would run; None where the call would raise
    requested: str  # "auto" or the backend that was named
    source: str  # who said so: "the argument", "use_backend", "LTLSTM_BACKEND" or "default"
    reasons: dict[str, list[str]]  # for each backend why it cannot run; empty lists can
    error: str | None  # what the call would raise
    notes: list[str]
    plan: str | None  # how backend cuda would run it on the GPU at hand: modelled, a line a pass

    def __str__(self) -> str:
        lines = [f"{self.backend or 'error'} ({self.requested!r} by {self.source})"]
        if self.error is not None:
            lines.append(f"  {self.error}")
        for name, found in self.reasons.items():
            if name != self.backend:
                lines.append(f"  not {name}: {'; '.join(found) or 'could run'}")
        lines += [f"  note: {note}" for note in self.notes]
        planned = [] if self.plan is None else self.plan.splitlines()
        return "\n".join([*lines, *(f"  cuda would run {line}" for line in planned)])


def explain(
    module: nn.Module, input: Tensor | PackedSequence, hx: State | None = None, **kwargs: Any
) -> Explanation:
    """Which backend ``module(input, hx, **kwargs)`` would run on here and now, and why no other.

    Under the gradient mode, autocast, ``use_backend`` and environment of this call; torch.compile
    and torch.export cannot trace aten: what auto leaves to it runs there on cuda or cpu, or, where
    these cannot, on the reference. Nothing is computed or drawn, but hooks that run before
    ``forward`` do.

    Raises TypeError where the module is none of ltlstm's, and what the call raises for arguments
    that do not fit.
    """
    if not isinstance(module, Recurrent | LSTMCell | HLSTMCell):
        raise TypeError(f"explain: module must be one of ltlstm's, got {type(module).__name__}")
    asking = backends.question(lambda: module(input, hx, **kwargs))
    if asking is None:
        raise TypeError(f"explain: the forward of {type(module).__name__} must call ltlstm's")
    argument, asked = asking
    requested, source = backends.requested(argument)
    chosen, error = None, None
    try:
        chosen = backends.choose(argument, asked)
    except (RuntimeError, ValueError) as refused:
        error = str(refused)
    reasons = {name: backends.reasons(name, asked) for name in backends.BACKENDS if name != "auto"}
    notes = [] if chosen is None else backends.notes(chosen, asked)
    if (requested, chosen) == ("auto", "aten") and not reasons["cpu"]:
        notes.append("aten measured faster than cpu at these sizes")
    planned = backends.launch_plan(asked)
    plan = None if planned is None else str(planned)
    return Explanation(chosen, requested, source, reasons, error, notes, plan)
