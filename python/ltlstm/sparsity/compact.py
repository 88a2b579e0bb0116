# SPDX-License-Identifier: Apache-2.0
"""A smaller model with the same outputs: without the units that are dead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ltlstm.modules.h_lstm import HLSTM
from ltlstm.sparsity.counts import Count, count, in_use
from ltlstm.sparsity.masks import CPU
from ltlstm.sparsity.readers import Readers
from ltlstm.sparsity.rebuild import is_resizable, replaced, resized, sizes_of
from ltlstm.sparsity.units import Graph, places
from ltlstm.sparsity.weights import find_weights


class Compact(NamedTuple):
    """The smaller model, and how large the two are."""

    model: nn.Module
    before: Count
    after: Count


@torch.no_grad()
def compact(model: nn.Module, readers: Readers | None = None) -> Compact:
    """A copy of the model without units that are always 0 or that nothing reads.

    Modules stay what they are, in smaller sizes, so the result trains, exports and compiles as
    before. Outputs agree to rounding. The sizes of nn.Linear, ungrouped convolutions, nn.LSTM,
    ltlstm.LSTM and HLSTM change, of plain ones with parameters of their own: what has hooks,
    buffers that are no masks, a parametrization or another forward, or stands in two places, stays
    as it is. A stack keeps one hidden size, and an HLSTM one gate width, so the layer and gate with
    the most live units decide. States passed in or given back have the smaller sizes.

    Args:
        readers: which modules alone read a module's output, as for GrowPrune. A module whose
            readers are not known keeps all its outputs.

    Weights that are zero inside a live row stay zero: :func:`block_sparse` describes those.
    """
    weights = find_weights(model)
    graph = Graph(model, weights, readers)
    values = {weight.name: in_use(weight) for weight in weights}
    live = {name: (value != 0).contiguous() for name, value in values.items()}
    names = {side.weight for units in graph.units for side in units.biases}
    biases = {name: (model.get_parameter(name) != 0).contiguous() for name in names}
    dead = graph.remove_dead(live, biases, biases_feed=True)
    plan = _Plan(model, graph, {name: ~gone for name, gone in dead.items()})
    made = {name: plan.made(name) for name in plan.changed()}
    smaller = replaced(model, made)
    return Compact(smaller, count(model), count(smaller))


class _Plan:
    """Which units stay, as indices into each set, and the modules made of them."""

    def __init__(self, model: nn.Module, graph: Graph, alive: dict[str, Tensor]) -> None:
        self.model, self.graph, self.alive = model, graph, alive
        self.open = {units.name: units.open for units in graph.units}
        self.free = {
            name: is_resizable(model, name) for name in graph.modules if _has_weights(model, name)
        }
        self.feeder = {
            reader: name for name, readers in graph.readers.items() for reader in readers
        }

    def changed(self) -> list[str]:
        found = [name for name, free in self.free.items() if free]
        return [name for name in found if self._sizes(name) != sizes_of(self.graph.modules[name])]

    def _shrinks(self, name: str) -> bool:
        """Whether a module may lose outputs: all that read it can lose inputs."""
        readers = self.graph.readers.get(name, ())
        return bool(readers) and all(self.free.get(each) for each in (name, *readers))

    def _kept(self, sets: Sequence[str], size: int, may: bool, least: int = 1) -> list[Tensor]:
        """Of sets that must stay equally large, the units that stay, in order."""
        alive = [self.alive.get(each) for each in sets]
        fixed = not may or any(a is None for a in alive) or any(self.open[each] for each in sets)
        if fixed:
            return [torch.arange(size, device=CPU) for _ in sets]
        masks = [a.cpu() for a in alive if a is not None]
        width = max(least, *(int(mask.sum()) for mask in masks))
        # The live ones first, then, to fill up, dead ones: all zero.
        return [(~mask).int().argsort(stable=True)[:width].sort().values for mask in masks]

    def outputs(self, name: str) -> list[Tensor]:
        """Of each direction, the outputs that stay."""
        module = self.graph.modules[name]
        if not isinstance(module, nn.RNNBase):
            size = module.weight.shape[0]  # type: ignore[union-attr]
            return self._kept([name], int(size), self._shrinks(name))
        last = module.num_layers - 1
        return self.layers(name)[1][last * self._directions(module) :]

    def layers(self, name: str) -> tuple[list[Tensor], list[Tensor]]:
        """Of each layer and direction, hidden units and outputs that stay."""
        module = self.graph.modules[name]
        assert isinstance(module, nn.RNNBase)
        hidden = [f"{name}.hidden{at}" if name else f"hidden{at}" for at in places(module)]
        may = self._shrinks(name)
        if not module.proj_size:
            kept = self._kept(hidden, module.hidden_size, may)
            return kept, kept
        projected = [each.replace("hidden", "projected") for each in hidden]
        outputs = self._kept(projected, module.proj_size, may)
        # nn.LSTM wants its projection smaller than its hidden state.
        return self._kept(hidden, module.hidden_size, True, len(outputs[0]) + 1), outputs

    def inputs(self, name: str, size: int) -> Tensor:
        """The inputs that stay: what its feeder keeps."""
        feeder = self.feeder.get(name)
        if feeder is None or not self._shrinks(feeder):
            return torch.arange(size, device=CPU)
        return _side_by_side(self.outputs(feeder), size)

    def _directions(self, module: nn.RNNBase) -> int:
        return 2 if module.bidirectional else 1

    def gates(self, name: str) -> list[Tensor]:
        """Of each layer, direction, hidden gate layer and gate of an HLSTM, the units that stay."""
        module = self.graph.modules[name]
        assert isinstance(module, HLSTM)
        prefix = f"{name}." if name else ""
        sets = [
            f"{prefix}gate{layer}{at}.{gate}"
            for at in places(module)
            for layer in range(module.gate_num_layers)
            for gate in "ifgo"
        ]
        return self._kept(sets, module.gate_hidden_size, True)

    def _sizes(self, name: str) -> dict[str, int]:
        module = self.graph.modules[name]
        sizes = sizes_of(module)
        if isinstance(module, nn.RNNBase):
            hidden, outputs = self.layers(name)
            sizes |= {"hidden_size": len(hidden[0])}
            if module.proj_size:
                sizes |= {"proj_size": len(outputs[0])}
            if isinstance(module, HLSTM):
                sizes |= {"gate_hidden_size": len(self.gates(name)[0])}
            return sizes | {"input_size": len(self.inputs(name, module.input_size))}
        reads, makes = list(sizes)
        return {
            reads: len(self.inputs(name, sizes[reads])),
            makes: len(self.outputs(name)[0]),
        }

    def made(self, name: str) -> nn.Module:
        module = self.graph.modules[name]
        made = resized(module, self._sizes(name))
        indices = self._indices(name)
        for attribute, parameter in made.named_parameters():
            old = getattr(module, attribute)
            parameter.copy_(_taken(old, indices[attribute]))
            mask = module._buffers.get(f"{attribute}_mask")
            if mask is not None:
                getattr(made, f"{attribute}_mask").copy_(_taken(mask, indices[attribute]))
        return made

    def _indices(self, name: str) -> dict[str, list[Tensor]]:
        """For each parameter its rows that stay, then its columns; of three dimensions, by gate."""
        module = self.graph.modules[name]
        if not isinstance(module, nn.RNNBase):
            reads = int(module.weight.shape[1])  # type: ignore[union-attr]
            rows = self.outputs(name)[0]
            return {"weight": [rows, self.inputs(name, reads)], "bias": [rows]}
        found: dict[str, list[Tensor]] = {}
        hidden, outputs = self.layers(name)
        below = self.inputs(name, module.input_size)
        directions = self._directions(module)
        H, J = module.hidden_size, getattr(module, "gate_num_layers", 0)
        gates = self.gates(name) if isinstance(module, HLSTM) else []
        for k, at in enumerate(places(module)):
            if k and k % directions == 0:
                width = directions * (module.proj_size or H)
                below = _side_by_side(outputs[k - directions : k], width)
            of = [gates[4 * (k * J + layer) : 4 * (k * J + layer + 1)] for layer in range(J)]
            own = [hidden[k]] * 4
            first = _stacked(of[0] if J else own, getattr(module, "gate_hidden_size", H))
            found |= {f"weight_ih{at}": [first, below], f"weight_hh{at}": [first, outputs[k]]}
            found |= {f"{bias}{at}": [first] for bias in ("bias", "bias_ih", "bias_hh")}
            found[f"weight_hr{at}"] = [outputs[k], hidden[k]]
            for layer in range(1, J + 1):
                kept = torch.stack(of[layer] if layer < J else own)
                found[f"gate{layer}_weight{at}"] = [kept, torch.stack(of[layer - 1])]
                found[f"gate{layer}_bias{at}"] = [kept]
        return found


def _has_weights(model: nn.Module, name: str) -> bool:
    return bool(model.get_submodule(name)._parameters)


def _side_by_side(parts: list[Tensor], size: int) -> Tensor:
    """Indices into parts, as indices into their concatenation of ``size``."""
    each = size // len(parts)
    return torch.cat([part + k * each for k, part in enumerate(parts)])


def _stacked(gates: list[Tensor], size: int) -> Tensor:
    return torch.cat([gate + k * size for k, gate in enumerate(gates)])


def _taken(value: Tensor, indices: list[Tensor]) -> Tensor:
    """The rows and columns; where the indices are (gates, kept), those of each gate."""
    first, *rest = (each.to(value.device) for each in indices)
    if first.dim() == 1:
        value = value[first]
        return value[:, rest[0]] if rest else value
    return torch.stack(
        [
            gate[rows] if not rest else gate[rows][:, rest[0][k]]
            for k, (gate, rows) in enumerate(zip(value, first, strict=True))
        ]
    )
