# SPDX-License-Identifier: Apache-2.0
"""The parameters of a layer trajectory LSTM, which LTLSTM and LTLSTMCell have in common."""

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.nn import Parameter, init

from ltlstm import functional
from ltlstm.functional.depth_units import DEPTH_UNITS, Shapes, check_depth_unit
from ltlstm.modules.recurrent import Recurrent, State
from ltlstm_kernels import ops


class Trajectory(Recurrent):
    """A stack of time-LSTMs with nn.LSTM's parameters, and a layer-LSTM's beside them.

    The names are frozen: state dicts outlive code. Nothing unused is created, because a parameter
    without a gradient breaks DistributedDataParallel.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
        *,
        peephole: bool = False,
        share_layer_weights: bool = False,
        depth_unit: str = "lstm",
        lookahead: int = 0,
        traj_dropout: bool = True,
        lanes: bool | None = None,
        backend: str | None = None,
    ) -> None:
        op = type(self).__name__
        check_depth_unit(op, depth_unit)
        if not isinstance(lookahead, int):
            raise TypeError(f"{op}: lookahead must be an int, got a {type(lookahead).__name__}")
        if lookahead < 0:
            raise ValueError(f"{op}: lookahead must not be negative, got {lookahead}")
        # Told of dropout in one layer nn.LSTM would warn that it does not act; here it does.
        acts = num_layers == 1 and traj_dropout and type(dropout) in (int, float)
        acts = acts and 0 < dropout <= 1
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, 0.0 if acts else dropout,
            bidirectional, proj_size, device, dtype, backend=backend,
        )  # fmt: skip
        if acts:
            self.dropout = float(dropout)
        self.peephole = peephole
        self.share_layer_weights = share_layer_weights
        self.depth_unit = depth_unit
        self.lookahead = lookahead
        self.traj_dropout = traj_dropout
        self.lanes = lanes

        created: Shapes = {}
        self._time_names: list[str] = []  # in the order of the functional's flat list
        for names in self._all_weights:
            self._time_names += names
            if peephole:
                name = names[0].replace("weight_ih", "peephole")
                created[name] = (3, hidden_size)
                self._time_names.append(name)
        layers = [self._layer_shapes(layer) for layer in range(num_layers)]
        self._traj_names = [name for shapes in layers for name in shapes]
        for shapes in reversed(layers) if share_layer_weights else layers:
            created |= shapes  # shared, the last layer's group is the complete one: in its order
        self._context_names = [
            f"traj_context{self._suffix(layer)}" for layer in range(1, num_layers) if lookahead > 0
        ]
        created |= dict.fromkeys(self._context_names, (lookahead + 1, self._width))
        for name, shape in created.items():
            setattr(self, name, Parameter(self._first_weight.new_empty(shape)))
        self._start(created)

    @property
    def _width(self) -> int:
        return (self.proj_size or self.hidden_size) * (2 if self.bidirectional else 1)

    def _suffix(self, layer: int) -> str:
        return "" if self.share_layer_weights else f"_l{layer}"

    def _layer_shapes(self, layer: int) -> Shapes:
        """The layer-LSTM's parameters at one layer, in flat order."""
        Q, G = self._width, self.hidden_size * (2 if self.bidirectional else 1)
        shapes = DEPTH_UNITS[self.depth_unit].shapes(
            layer, Q, G, self.bias, self.proj_size > 0, self.peephole
        )
        return {f"traj_{name}{self._suffix(layer)}": shape for name, shape in shapes.items()}

    def reset_parameters(self) -> None:
        self._start(name for name, _ in self.named_parameters())

    def _start(self, names: Iterable[str]) -> None:
        """As nn.LSTM starts; a context starts as no look-ahead."""
        stdv = 1.0 / math.sqrt(self.hidden_size)
        for name in names:
            parameter = getattr(self, name)
            if name.startswith("traj_context"):
                init.zeros_(parameter)
                init.ones_(parameter[0])
            else:
                init.uniform_(parameter, -stdv, stdv)

    def _time_weights(self) -> list[Tensor]:
        return self._named(self._time_names)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "peephole": self.peephole}

    def _compute(
        self, input: Tensor, hx: State | None, batch_sizes: Tensor | None, lengths: Tensor | None,
        reset: Tensor | None, return_states: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        return functional.lt_lstm(
            input, hx, self._time_weights(), self._named(self._traj_names), **self._options(),
            batch_sizes=batch_sizes, lengths=lengths, reset=reset, return_states=return_states,
            depth_unit=self.depth_unit, contexts=self._named(self._context_names),
            traj_dropout=self.traj_dropout,
            lanes=self.lanes,
        )  # fmt: skip

    def _forward_direct(self, input: Tensor, hx: State) -> tuple[Tensor, State] | None:
        if not DEPTH_UNITS[self.depth_unit].has_cell or self._context_names:
            return None
        return super()._forward_direct(input, hx)

    def _weight_lists(self) -> list[list[Tensor]]:
        return [self._time_weights(), self._named(self._traj_names)]

    def _operator(
        self, input: Tensor, h0: Tensor, c0: Tensor, *weights: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        return ops.lt_lstm_forward(
            input, h0, c0, *weights, bias=self.bias, projected=self.proj_size > 0,
            peephole=self.peephole, bidirectional=self.bidirectional, save=False, lanes=self.lanes,
        )[:3]  # fmt: skip

    def extra_repr(self) -> str:
        s = super().extra_repr()
        for name, usual in (
            ("peephole", False), ("share_layer_weights", False), ("depth_unit", "lstm"),
            ("lookahead", 0), ("traj_dropout", True), ("lanes", None),
        ):  # fmt: skip
            if getattr(self, name) != usual:
                s += f", {name}={getattr(self, name)!r}"
        return s
