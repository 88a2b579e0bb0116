# SPDX-License-Identifier: Apache-2.0
"""The same modules in other sizes: what a smaller model is made of."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from torch import nn

from ltlstm.modules.foreign import obstacle
from ltlstm.modules.gates import MASK
from ltlstm.modules.h_lstm import HLSTM
from ltlstm.modules.lstm import LSTM
from ltlstm.modules.recurrent import TorchLSTM
from ltlstm.sparsity.weights import CONVOLUTIONS

Sizes = dict[str, int]
Options = dict[str, Any]  # of a constructor

# The arguments that may become smaller.
RESIZABLE: dict[type[nn.Module], tuple[str, ...]] = {
    nn.Linear: ("in_features", "out_features"),
    **dict.fromkeys(CONVOLUTIONS, ("in_channels", "out_channels")),
    TorchLSTM: ("input_size", "hidden_size", "proj_size"),
    LSTM: ("input_size", "hidden_size", "proj_size"),
    HLSTM: ("input_size", "hidden_size", "gate_hidden_size"),
}
CONVOLUTION = ("kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
STACK = ("num_layers", "batch_first", "dropout", "bidirectional")
GATES = ("gate_num_layers", "gate_dropout", "activation")


# What a module holds beside its constructor's arguments, parameters and masks.
HOOKS = (
    "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks",
    "_state_dict_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)  # fmt: skip


def addition(module: nn.Module) -> str | None:
    """What would be lost of a module that is made anew; None where nothing would."""
    found = obstacle(module, type(module))
    if found is not None:
        return found
    known = {"weight", "bias", *getattr(module, "_flat_weights_names", ())}
    masks = {name + MASK for name in known} if isinstance(module, HLSTM) else set()
    for what, names in (
        ("hooks", [name for hooks in HOOKS for name in getattr(module, hooks)]),
        ("parameters", module._parameters.keys() - known),
        ("buffers", module._buffers.keys() - masks),
        ("modules", module._modules),
    ):
        if names:
            return f"it has {what} that were added to it"
    return None


def is_resizable(model: nn.Module, name: str) -> bool:
    """Whether the module can be made anew: a plain one, in one place of the model, to which nothing
    was added, with parameters of its own."""
    module = model.get_submodule(name)
    if type(module) not in RESIZABLE or getattr(module, "groups", 1) != 1:
        return False
    if addition(module) is not None:
        return False
    if sum(other is module for _, other in model.named_modules(remove_duplicate=False)) > 1:
        return False
    places = [
        (id(p), other)
        for other in model.modules()
        for p in other._parameters.values()
        if p is not None
    ]
    own = [parameter for parameter, place in places if place is module]
    shared = [parameter for parameter, place in places if place is not module]
    return len(set(own)) == len(own) and set(own).isdisjoint(shared)


def sizes_of(module: nn.Module) -> Sizes:
    return {name: getattr(module, name) for name in RESIZABLE[type(module)]}


def resized(module: nn.Module, sizes: Options) -> nn.Module:
    """A module of the same kind and options in other sizes; its parameters are to be filled."""
    first = next(module.parameters())
    options: Options = {"device": first.device, "dtype": first.dtype}
    options["bias"] = (
        bool(module.bias) if isinstance(module, nn.RNNBase) else (module.bias is not None)
    )
    if isinstance(module, CONVOLUTIONS):
        options |= {name: getattr(module, name) for name in CONVOLUTION}
    elif isinstance(module, nn.RNNBase):
        options |= {name: getattr(module, name) for name in STACK}
    if isinstance(module, HLSTM):
        options |= {name: getattr(module, name) for name in GATES}
    if isinstance(module, HLSTM | LSTM):
        options["backend"] = module.backend
    made = type(module)(**options | sizes)
    made.train(module.training)
    for parameter, old in zip(made.parameters(), module.parameters(), strict=True):
        parameter.requires_grad_(old.requires_grad)
    return made


def replaced(model: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of the model with other modules in these places."""
    if "" in modules:
        return modules[""]
    copied = copy.deepcopy(model)
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        copied.get_submodule(parent)._modules[child] = module
    return copied


def all_sizes(model: nn.Module) -> dict[str, Sizes]:
    """Of every module that could be made in other sizes, by name."""
    return {
        name: sizes_of(module)
        for name, module in model.named_modules()
        if type(module) in RESIZABLE
    }


def with_sizes(model: nn.Module, sizes: Mapping[str, Options]) -> nn.Module:
    """A copy of the model whose modules have these sizes; the values of those that changed are to
    be loaded. ValueError where the model has other modules."""
    own = all_sizes(model)
    if own.keys() != sizes.keys():
        differing = sorted(own.keys() ^ sizes.keys())[0]
        raise ValueError(f"sparsity: sizes must be of the model's modules, got {differing!r}")
    changed = {}
    for name, wanted in sizes.items():
        module = model.get_submodule(name)
        if any(wanted[size] != value for size, value in sizes_of(module).items()):
            lost = addition(module)
            if lost is not None:
                raise ValueError(
                    f"sparsity: {name or 'model'} must be plain to get other sizes, got a "
                    f"{type(module).__name__}: {lost}"
                )
            changed[name] = resized(module, wanted)
    return replaced(model, changed)
