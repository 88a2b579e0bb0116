# SPDX-License-Identifier: Apache-2.0
"""nn.LSTM becomes ltlstm.LSTM, and back, in a model; patch_torch: in code that builds its own."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import nn

from ltlstm.modules.foreign import obstacle, torch_twin, twin
from ltlstm.modules.lstm import LSTM
from ltlstm.modules.recurrent import TorchLSTM

Filter = Callable[[nn.Module, str], bool]


class Skipped(NamedTuple):
    """A module that stays as it is; the name of the model itself is empty."""

    name: str
    reason: str


class ConvertReport(NamedTuple):
    """What ``convert_`` or ``revert_`` would do to a model, by the names of its modules."""

    convertible: list[str]
    skipped: list[Skipped]


def convert_report(model: nn.Module, *, filter_fn: Filter | None = None) -> ConvertReport:
    """Which nn.LSTMs of the model ``convert_`` would replace, and which it would skip, and why.

    After ``convert_`` its ``skipped`` are those that are left.
    """
    return _report(model, TorchLSTM, filter_fn)


def convert_(
    model: nn.Module, *, filter_fn: Filter | None = None, backend: str | None = None
) -> nn.Module:
    """Replaces every nn.LSTM inside the model, in place, by an ltlstm.LSTM; returns the model.

    Where the model itself is an nn.LSTM, returns the new module. Parameter objects stay, so
    optimizers and ties do too; so do options, training mode, buffers, parametrizations, pruning,
    and hooks with their handles. A module that occurs several times is replaced by one.

    Args:
        filter_fn: called with a module and its name; what it declines is left alone.
        backend: of the new modules.

    What cannot be replaced (a subclass of nn.LSTM, TorchScript, a module with a forward of its own
    or compiled in place) is left, with a UserWarning that names it; :func:`convert_report` lists
    it. nn.LSTMCell, and LSTMs that the model keeps elsewhere than in submodules, are not looked at.
    :func:`revert_` is the way back.
    """

    def make(old: nn.Module) -> nn.Module:
        made = twin(old, LSTM, move=True)
        made.backend = backend
        return made

    return _replace("convert_", model, convert_report(model, filter_fn=filter_fn), make)


def revert_report(model: nn.Module, *, filter_fn: Filter | None = None) -> ConvertReport:
    """Which ltlstm.LSTMs of the model ``revert_`` would replace, and which it would skip, and why.

    After ``revert_`` its ``skipped`` are those that are left.
    """
    return _report(model, LSTM, filter_fn)


def revert_(model: nn.Module, *, filter_fn: Filter | None = None) -> nn.Module:
    """Replaces every ltlstm.LSTM inside the model, in place, by an nn.LSTM; returns the model.

    The inverse of :func:`convert_`, for tools that ask for nn.LSTM itself, such as
    ``torch.ao.quantization.quantize_dynamic(model, {nn.LSTM})``. What stays, ``filter_fn`` and the
    warning are as there; a backend is not kept. Other modules of this package have no counterpart
    in torch.nn and are not looked at.
    """
    report = revert_report(model, filter_fn=filter_fn)
    return _replace("revert_", model, report, partial(torch_twin, move=True))


def _report(
    model: nn.Module, expected: type[nn.RNNBase], filter_fn: Filter | None
) -> ConvertReport:
    report = ConvertReport([], [])
    for name, module in model.named_modules(remove_duplicate=False):
        if not _is(module, expected) or not (filter_fn is None or filter_fn(module, name)):
            continue
        reason = obstacle(module, expected)
        if reason is None:
            report.convertible.append(name)
        else:
            report.skipped.append(Skipped(name, reason))
    return report


def _is(module: nn.Module, expected: type[nn.RNNBase]) -> bool:
    if isinstance(module, torch.jit.ScriptModule):  # one of nn.LSTM: ours is not scripted
        return expected is TorchLSTM and module.original_name == "LSTM"
    return isinstance(module, expected)


def _replace(
    op: str, model: nn.Module, report: ConvertReport, make: Callable[[nn.Module], nn.Module]
) -> nn.Module:
    """Every convertible module by what ``make`` makes of it; a warning for what is skipped."""
    # All found before any changes: a parent that occurs twice would give what was made of a child.
    found = [(name, model.get_submodule(name)) for name in report.convertible]
    made: dict[nn.Module, nn.Module] = {}
    for name, old in found:
        if old not in made:
            made[old] = make(old)
        if old is model:
            return made[old]
        parent, _, child = name.rpartition(".")
        model.get_submodule(parent)._modules[child] = made[old]
    if report.skipped:
        listed = "; ".join(f"{s.name or 'the model'}: {s.reason}" for s in report.skipped)
        warnings.warn(f"{op}: left as they are: {listed}", UserWarning, stacklevel=3)
    return model


# Not torch.nn.modules.rnn: pickle looks nn.LSTM up there.
_PLACES = (torch.nn, torch.nn.modules)
_patches = 0
_patching = threading.Lock()


@contextmanager
def patch_torch() -> Iterator[None]:
    """Inside, ``torch.nn.LSTM`` is ltlstm.LSTM: for code that builds its own.

    For the whole process: what other threads build meanwhile changes, too, until the last of the
    blocks that overlap ends. It cannot reach a name imported before it (``from torch.nn import
    LSTM``) or classes derived before it. Modules built inside stay ltlstm's afterwards.
    """
    _patch(+1)
    try:
        yield
    finally:
        _patch(-1)


def _patch(change: int) -> None:
    global _patches
    with _patching:
        _patches += change
        for place in _PLACES:
            place.LSTM = LSTM if _patches else TorchLSTM  # type: ignore[attr-defined]
