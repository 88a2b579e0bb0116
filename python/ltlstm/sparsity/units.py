# SPDX-License-Identifier: Apache-2.0
"""The units of a model, what feeds them and what reads them, and which of them are dead.

A unit is a row of the weights that make it and a column of the weights that read it: a hidden unit
of an LSTM, of a gate's hidden layer, an output of a linear layer, a channel. What reads a module's
output is known inside stacks and nn.Sequential, and elsewhere from what the caller says.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from ltlstm.modules.h_lstm import HLSTM
from ltlstm.sparsity.readers import ONE_WEIGHT, STACKS, Readers, join, sequential_readers
from ltlstm.sparsity.rebuild import addition
from ltlstm.sparsity.weights import CONVOLUTIONS, Weight, first_names


@dataclasses.dataclass(frozen=True)
class Side:
    """Where units stand in a weight: rows from 0 on, or columns from ``first`` on."""

    weight: str
    gate: int | None = None  # None: in all gates
    first: int = 0  # in columns of an input


@dataclasses.dataclass
class Units:
    """A set of units of one kind, in one place of a model."""

    name: str
    size: int
    rows: list[Side]
    biases: list[Side]
    columns: list[Side] = dataclasses.field(default_factory=list)
    open: bool = False  # also read by what is not known


class Graph:
    """All units of a model whose weights are given."""

    def __init__(
        self, model: nn.Module, weights: Sequence[Weight], readers: Readers | None
    ) -> None:
        self.model = model
        self.modules = dict(model.named_modules())
        self.names = first_names(model)
        # A row of a tied weight is a unit's here and something else elsewhere.
        places = Counter(
            id(p) for module in self.modules.values() for p in module._parameters.values()
        )
        self.tied = {name for name, p in model.named_parameters() if places[id(p)] > 1}
        self.weights = {weight.name: weight for weight in weights if weight.name not in self.tied}
        self.readers = dict(sequential_readers(model))
        for name, reading in (readers or {}).items():
            for each in (name, *reading):
                if each not in self.modules:
                    raise ValueError(f"sparsity: readers must name modules, got {each!r}")
            self.readers[name] = list(reading)
        # A parametrized weight is no parameter, and what it feeds or reads is not known.
        found = [units for name in self.modules for units in self._units_of(name)]
        self.units = [units for units in found if self._is_known(units)]

    def _occurs(self, name: str) -> int:
        """In how many places of the model the module stands; its reader is known in one."""
        module = self.modules.get(name)
        places = self.model.named_modules(remove_duplicate=False)
        return 2 if module is None else sum(other is module for _, other in places)

    def _is_known(self, units: Units) -> bool:
        sides = units.rows + units.columns
        known = bool(units.rows) and all(side.weight in self.weights for side in sides)
        return known and not any(side.weight in self.tied for side in units.biases)

    def _units_of(self, name: str) -> Iterator[Units]:
        module = self.modules[name]
        # Subclasses and hooks may do more with weights and outputs than is known here.
        if addition(module) is not None:
            return
        if type(module) in ONE_WEIGHT and getattr(module, "groups", 1) == 1:
            rows, biases = self._sides(name, "weight"), self._sides(name, "bias")
            made = Units(name, module.weight.shape[0], rows, biases)
            self._read_by(made, name)
            yield made
        elif type(module) in STACKS:
            yield from self._stack(name, module)

    def _stack(self, name: str, module: nn.RNNBase) -> Iterator[Units]:
        H, P = module.hidden_size, module.proj_size
        at_all = places(module)
        directions = len(at_all) // module.num_layers
        for layer in range(module.num_layers):
            for d in range(directions):
                at = at_all[layer * directions + d]
                if isinstance(module, HLSTM):
                    yield from self._gate_layers(name, module, at)
                    last = module.gate_num_layers
                    rows = self._sides(name, f"gate{last}_weight{at}")
                    biases = self._sides(name, f"gate{last}_bias{at}")
                else:
                    rows = self._sides(name, f"weight_ih{at}", f"weight_hh{at}")
                    biases = self._sides(name, f"bias_ih{at}", f"bias_hh{at}")
                made = Units(join(name, f"hidden{at}"), H, rows, biases)
                if P:
                    made.columns = self._sides(name, f"weight_hr{at}")
                    yield made
                    rows = self._sides(name, f"weight_hr{at}")
                    made = Units(join(name, f"projected{at}"), P, rows, [])
                made.columns = self._sides(name, f"weight_hh{at}")
                if layer + 1 < module.num_layers:
                    for above in at_all[(layer + 1) * directions :][:directions]:
                        reading = self._sides(name, f"weight_ih{above}", first=d * (P or H))
                        made.columns += reading
                else:
                    self._read_by(made, name, first=d * (P or H))
                yield made

    def _gate_layers(self, name: str, module: HLSTM, at: str) -> Iterator[Units]:
        for layer in range(module.gate_num_layers):
            if layer == 0:
                weights, bias = [f"weight_ih{at}", f"weight_hh{at}"], f"bias{at}"
            else:
                weights, bias = [f"gate{layer}_weight{at}"], f"gate{layer}_bias{at}"
            for gate in range(4):
                yield Units(
                    join(name, f"gate{layer}{at}.{'ifgo'[gate]}"),
                    module.gate_hidden_size,
                    self._sides(name, *weights, gate=gate),
                    self._sides(name, bias, gate=gate),
                    self._sides(name, f"gate{layer + 1}_weight{at}", gate=gate),
                )

    def _sides(
        self, name: str, *attributes: str, gate: int | None = None, first: int = 0
    ) -> list[Side]:
        full = [join(name, attribute) for attribute in attributes]
        return [Side(self.names[each], gate, first) for each in full if each in self.names]

    def _read_by(self, units: Units, name: str, first: int = 0) -> None:
        if name not in self.readers or self._occurs(name) > 1:
            units.open = True
            return
        width = units.size * (1 + getattr(self.modules[name], "bidirectional", False))
        for reader in self.readers[name]:
            module = self.modules.get(reader)
            reading = [
                attribute
                for attribute in ("weight", "weight_ih_l0", "weight_ih_l0_reverse")
                if join(reader, attribute) in self.names
            ]
            grouped = isinstance(module, CONVOLUTIONS) and module.groups > 1
            # Where two modules' outputs are added, a column is not one unit's.
            shared = sum(reader in readers for readers in self.readers.values()) > 1
            known = self._occurs(reader) == 1 and addition(self.modules[reader]) is None
            if not reading or grouped or shared or not known:
                units.open = True
                continue
            for side in self._sides(reader, *reading, first=first):
                if side.weight not in self.weights:  # a GRU's, say, or tied
                    units.open = True
                    continue
                layout = self.weights[side.weight].layout
                if layout.columns // layout.span != width:
                    raise ValueError(
                        f"sparsity: {reader} must read the {width} outputs of {name}, got "
                        f"{layout.columns // layout.span} inputs"
                    )
                units.columns.append(side)

    def row_part(self, side: Side, live: Tensor) -> Tensor:
        """(gates, units, columns) of a weight, a view."""
        part = self.weights[side.weight].layout.view(live)
        return part if side.gate is None else part[side.gate : side.gate + 1]

    def column_part(self, units: Units, side: Side, live: Tensor) -> Tensor:
        """(gates, rows, units, span) of a weight, a view."""
        layout = self.weights[side.weight].layout
        part = layout.view(live).unflatten(2, (-1, layout.span))
        part = part[:, :, side.first : side.first + units.size]
        return part if side.gate is None else part[side.gate : side.gate + 1]

    def bias_part(self, units: Units, side: Side, bias: Tensor) -> Tensor:
        """(gates, units) of a bias, a view."""
        part = bias.view(-1, units.size)
        return part if side.gate is None else part[side.gate : side.gate + 1]

    def fed(self, units: Units, live: Mapping[str, Tensor]) -> Tensor:
        """Which units have a live input, (units,) bool."""
        parts = [self.row_part(s, live[s.weight]).any(2).any(0) for s in units.rows]
        return torch.stack(parts).any(0)

    def read(self, units: Units, live: Mapping[str, Tensor]) -> Tensor:
        """Which units something else than themselves reads, (units,) bool."""
        first = next(iter(live.values()))
        found = torch.full((units.size,), units.open, device=first.device)
        own = {side.weight for side in units.rows}
        for side in units.columns:
            part = self.column_part(units, side, live[side.weight]).any(3).any(0)  # (rows, units)
            if side.weight in own:
                part = part & ~torch.eye(units.size, dtype=torch.bool, device=part.device)
            found = found | part.any(0)
        return found

    def without_dead(self, masks: dict[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Masks without what belongs to dead units, biases' too where there are such units.

        Also returns how many units of a set are dead, for sets that have any. Weights without a
        mask count as live, and get none.
        """

        def start(name: str) -> Tensor:
            mask = masks.get(name)
            parameter = self.model.get_parameter(name)
            return torch.ones_like(parameter, dtype=torch.bool) if mask is None else mask.clone()

        live = {name: start(name) for name in self.weights}
        biases = {s.weight: start(s.weight) for units in self.units for s in units.biases}
        frozen = {name for name in biases if not self.model.get_parameter(name).requires_grad}
        dead = self.remove_dead(live, biases, kept=frozen)
        cleared = {name: live.get(name, m) for name, m in masks.items() if name not in biases}
        cleared |= {name: mask for name, mask in biases.items() if not bool(mask.all())}
        return cleared, {name: int(gone.sum()) for name, gone in dead.items() if bool(gone.any())}

    @torch.no_grad()
    def remove_dead(
        self, live: Mapping[str, Tensor], biases: Mapping[str, Tensor], biases_feed: bool = False,
        kept: Collection[str] = (),
    ) -> dict[str, Tensor]:  # fmt: skip
        """Clears, in place, whatever belongs to a unit without a live input or output.

        Until nothing changes, for a unit that goes may have been another's only input. ``live``
        holds a bool tensor for each weight and ``biases`` one for each bias, of their shapes and
        contiguous; with ``biases_feed`` a live bias is an input, too: what goes then is always 0 or
        unread. Units with a bias of ``kept`` stay. Returns which units of each set are dead now.
        """
        dead: dict[str, Tensor] = {}
        changed = True
        while changed:
            changed = False
            for units in self.units:
                if any(side.weight in kept for side in units.biases):
                    continue
                fed = self.fed(units, live)
                for side in units.biases if biases_feed else ():
                    fed = fed | self.bias_part(units, side, biases[side.weight]).any(0)
                gone = ~(fed & self.read(units, live))
                for part in self._parts(units, live, biases):
                    changed |= bool((part & gone).any())
                    part &= ~gone
                dead[units.name] = gone
        return dead

    def without_units(
        self, removed: Mapping[str, Tensor], masks: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Of the masks of biases whose units were removed what still holds: where masks that were
        loaded since give a unit live weights, its biases are live."""
        found = {name: mask.clone() for name, mask in removed.items()}
        for units in self.units:
            sides = [side for side in units.biases if side.weight in found]
            parts = list(self._parts(units, masks, {})) if sides else []
            if parts:
                live = torch.stack([part.flatten(0, -2).any(0) for part in parts]).any(0)
                for side in sides:
                    self.bias_part(units, side, found[side.weight]).logical_or_(live)
        return found

    def _parts(
        self, units: Units, live: Mapping[str, Tensor], biases: Mapping[str, Tensor]
    ) -> Iterator[Tensor]:
        """Views of all that is given of the units, the units last."""
        for side in units.rows:
            if side.weight in live:
                yield self.row_part(side, live[side.weight]).transpose(1, 2)
        for side in units.columns:
            if side.weight in live:
                yield self.column_part(units, side, live[side.weight]).transpose(2, 3)
        for side in units.biases:
            if side.weight in biases:
                yield self.bias_part(units, side, biases[side.weight])


def places(module: nn.RNNBase) -> list[str]:
    """The ends of a stack's parameter names: by layer, forward before reverse."""
    ends = ("", "_reverse") if module.bidirectional else ("",)
    return [f"_l{layer}{end}" for layer in range(module.num_layers) for end in ends]
