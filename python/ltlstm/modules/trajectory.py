# SPDX-License-Identifier: Apache-2.0
"""The parameters of a layer trajectory LSTM: what LTLSTM and LTLSTMCell have in common."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, init

from ltlstm import functional
from ltlstm.functional.layer_lane import DEPTH_UNITS
from ltlstm.modules.recurrent import Recurrent, State


class Trajectory(Recurrent):
    """A stack of time-LSTMs with nn.LSTM's parameters, and a layer-LSTM's beside them.

    The names are frozen: state dicts outlive code. Nothing unused is created, because a parameter
    without a gradient breaks DistributedDataParallel.
    """

    def __init__(
        self,
        *args: Any,
        peephole: bool = False,
        share_layer_weights: bool = False,
        depth_unit: str = "lstm",
        lookahead: int = 0,
        traj_dropout: bool = True,
        **kwargs: Any,
    ) -> None:
        if depth_unit not in DEPTH_UNITS:
            raise ValueError(f"depth_unit should be one of {DEPTH_UNITS}, got: {depth_unit!r}")
        if not isinstance(lookahead, int):
            raise TypeError(f"lookahead should be of type int, got: {type(lookahead).__name__}")
        if lookahead < 0:
            raise ValueError("lookahead must not be negative")
        super().__init__(*args, **kwargs)
        self.peephole = peephole
        self.share_layer_weights = share_layer_weights
        self.depth_unit = depth_unit
        self.lookahead = lookahead
        self.traj_dropout = traj_dropout
        like = self._flat_weights[0]
        self._time_names: list[str] = []
        created: dict[str, Tensor] = {}

        def create(name: str, *shape: int) -> str:
            if name not in created:  # shared layer weights come by once a layer
                created[name] = like.new_empty(shape)
                self.register_parameter(name, Parameter(created[name]))
            return name

        for index, names in enumerate(self._all_weights):
            self._time_names += names
            if peephole:
                suffix = names[0].removeprefix("weight_ih")
                self._time_names.append(create(f"peephole{suffix}", 3, self.hidden_size))
        self._traj_names = [
            create(name, *shape)
            for layer in range(self.num_layers)
            for name, shape in self._traj_group(layer)
        ]
        self._context_names = [
            create(f"traj_context{self._suffix(layer)}", lookahead + 1, self._width)
            for layer in range(1, self.num_layers)
            if lookahead > 0
        ]
        self._start(dict.fromkeys(created))
