# SPDX-License-Identifier: Apache-2.0
"""nn.LSTM as ltlstm.LSTM and back: another class around the same parameters."""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

from ltlstm.modules.recurrent import TorchLSTM


def obstacle(module: nn.Module, expected: type[nn.Module]) -> str | None:
    """Why this module is not plainly an ``expected``, so that another class would lose something.

    A parametrization, pruning or any other hook is none: those move along.
    """
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        return "it is TorchScript"
    if not isinstance(module, expected):
        return f"{name} is no {expected.__name__}"
    if type_before_parametrizations(module) is not expected:
        return f"{name} is a subclass of {expected.__name__}, and what it adds would be lost"
    if "forward" in vars(module):
        return "its forward was replaced"
    if getattr(module, "_compiled_call_impl", None) is not None:
        return "it is compiled in place: convert first, then compile"
    return None


def twin(module: nn.Module, cls: type[nn.RNNBase], move: bool) -> Any:
    """A ``cls`` with all that ``module`` holds: the same parameters, buffers and hooks.

    move: the module is given up, so the twin takes over its dictionaries, and a handle of a hook
    stays good; otherwise it gets copies of them.
    """
    own = type(module)
    if type_before_parametrizations(module) is not own:
        # torch put the parametrized tensors into this class, as properties.
        properties = {k: v for k, v in vars(own).items() if k not in ("__dict__", "__weakref__")}
        cls = type(f"Parametrized{cls.__name__}", (cls,), properties)
    made = cls.__new__(cls)
    for name, value in vars(module).items():
        copied = not move and isinstance(value, dict | list | set)
        vars(made)[name] = copy.copy(value) if copied else value
    made._init_flat_weights()  # an nn.LSTM on a GPU lays them out in one piece, for cuDNN
    hooks: dict[int, Any] = made._load_state_dict_pre_hooks
    for key, hook in hooks.items():
        if hook.with_module:
            hooks[key] = type(hook)(hook.hook, made)
    return made


def torch_twin(module: nn.Module, move: bool) -> nn.LSTM:
    """The nn.LSTM with all that an ltlstm.LSTM holds, but its backend."""
    made = twin(module, TorchLSTM, move)
    for name in ("backend", "__module__"):
        vars(made).pop(name, None)
    return made
