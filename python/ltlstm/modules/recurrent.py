# SPDX-License-Identifier: Apache-2.0
"""What all stacks share as modules: nn.LSTM's constructor, parameters, checks and input forms."""

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from ltlstm.functional.checks import check_pair, check_reset, require_tensor
from ltlstm.functional.direct import is_direct, may_be_direct
from ltlstm.functional.problem import Flags
from ltlstm.modules.leaf import Leaf
from ltlstm_kernels.capture import is_captured

State = tuple[Tensor, Tensor]

# By a name that ltlstm.patch_torch does not change.
TorchLSTM = nn.LSTM


def parameters_of(module: nn.Module, names: Iterable[str]) -> list[Any]:
    """What ``getattr`` gives for these names, without its detour to a module's own parameters."""
    own = module._parameters
    return [own[name] if name in own else getattr(module, name) for name in names]


class Recurrent(Leaf, nn.RNNBase):
    """A stack with nn.LSTM's signature, which leaves to its subclass what it computes.

    Not a subclass of nn.LSTM: torch.compile breaks the graph at any nn.LSTM.
    """

    backend: str | None = None  # in the class, for instances that were pickled by nn.LSTM
    _operator_of: str | None = None  # the name by which functional knows what `_operator` computes
    get_expected_cell_size = TorchLSTM.get_expected_cell_size  # nn.LSTM's check calls it
    permute_hidden = TorchLSTM.permute_hidden  # type: ignore[assignment]

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
        backend: str | None = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device, dtype,
        )  # fmt: skip
        self.backend = backend

    def flatten_parameters(self) -> None:
        """Does nothing: no kernel here wants its weights in one piece of memory."""

    def _init_flat_weights(self) -> None:
        super()._init_flat_weights()
        # A weight that a parametrization computed has a history, which deepcopy refuses to copy.
        self._flat_weights = [
            w if w is None or w.is_leaf else w.detach() for w in self._flat_weights
        ]

    def check_input(self, input: Tensor, batch_sizes: Tensor | None) -> None:
        if not torch._C._is_any_autocast_enabled() and input.dtype != self._first_weight.dtype:
            self._update_flat_weights()  # functional_call may have brought another dtype
        super().check_input(input, batch_sizes)

    def check_forward_args(  # type: ignore[override]
        self, input: Tensor, hidden: State, batch_sizes: Tensor | None
    ) -> None:
        TorchLSTM.check_forward_args(self._as_lstm, input, hidden, batch_sizes)

    @property
    def _as_lstm(self) -> TorchLSTM:
        """For nn.LSTM's own checks and errors, in its words."""
        return cast(TorchLSTM, self)

    @property
    def _first_weight(self) -> Tensor:
        return cast(Tensor, self._flat_weights[0])

    def _compute(
        self, input: Tensor, hx: State | None, batch_sizes: Tensor | None, lengths: Tensor | None,
        reset: Tensor | None, return_states: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        """The functional call: time-major input (T, N, D) or packed data (S, D)."""
        raise NotImplementedError

    def _time_weights(self) -> list[Tensor]:
        # By name on every call: parametrizations and functional_call put other tensors there.
        return self._named(self._flat_weights_names)

    def _named(self, names: Iterable[str]) -> list[Tensor]:
        return parameters_of(self, names)

    def _options(self) -> dict[str, Any]:
        """Keyword arguments that every functional stack takes."""
        return {
            "bias": self.bias,
            "dropout": self.dropout,
            "training": self.training,
            "projected": self.proj_size > 0,
            "bidirectional": self.bidirectional,
            "backend": self.backend,
        }

    def _flags(self) -> Flags:
        return Flags(**{name: self._options().get(name, False) for name in Flags._fields})

    def forward(
        self,
        input: Tensor | PackedSequence,
        hx: State | None = None,
        *,
        lengths: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: bool = False,
    ) -> tuple[Any, ...]:
        """``(output, (h_n, c_n))``, or ``(output, (h_n, c_n), states)``; shapes: the class's."""
        require_tensor(type(self).__name__, "lengths", lengths)
        require_tensor(type(self).__name__, "reset", reset)
        if isinstance(input, PackedSequence):
            for name, value in (("lengths", lengths), ("reset", reset)):
                if value is not None:
                    raise ValueError(
                        f"{type(self).__name__}: {name} must be None for a PackedSequence, got a "
                        f"{type(value).__name__}"
                    )
            return self._forward_packed(input, hx, return_states)
        if lengths is None and reset is None and not return_states and hx is not None:
            found = self._forward_direct(input, hx)
            if found is not None:
                return found
        return self._forward_padded(self._compute, input, hx, lengths, reset, return_states)

    def _forward_direct(self, input: Tensor, hx: State) -> tuple[Tensor, State] | None:
        """The operator at once, where that is the whole call (functional.direct), in the caller's
        form; else None."""
        if self._operator_of is None or type(hx) is not tuple or len(hx) != 2:
            return None
        if not may_be_direct():  # asked first: reading the weights may apply masks
            return None
        if type(input) is not Tensor or input.dim() != 3 or (self.training and self.dropout > 0):
            return None
        if self.batch_first:
            input = input.transpose(0, 1)
        lists = self._weight_lists()
        if not is_direct(
            self._operator_of, input, *hx, chain.from_iterable(lists), self.num_layers, self.backend
        ):
            return None
        try:
            output, h_n, c_n = self._operator(input, *hx, *lists)
        except RuntimeError:
            return None  # to be refused in nn.LSTM's words, where it has any
        return self._in_form(output, batched=True), (h_n, c_n)

    def _weight_lists(self) -> list[list[Tensor]]:
        """The flat lists of weights that the operator takes."""
        return [self._time_weights()]

    def _operator(
        self, input: Tensor, h0: Tensor, c0: Tensor, *weights: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(output, h_n, c_n) by the operator of this stack, for inference."""
        raise NotImplementedError

    def _forward_padded(
        self, compute: Callable[..., tuple], input: Tensor, hx: State | None,
        lengths: Tensor | None = None, reset: Tensor | None = None, return_states: bool = False,
    ) -> tuple[Any, ...]:  # fmt: skip
        """``compute``, which is time-major and batched, in the caller's form."""
        hx = _batched(input, hx)
        batched = input.dim() == 3
        if reset is not None:
            check_reset(type(self).__name__, reset, input)
        if not batched:
            batch_dim = 0 if self.batch_first else 1
            input = input.unsqueeze(batch_dim)
            reset = None if reset is None else reset.unsqueeze(batch_dim)
            if lengths is not None:
                raise ValueError(
                    f"{type(self).__name__}: lengths must be None for unbatched input, got a "
                    f"{type(lengths).__name__}"
                )
        if self._fits(input, hx):
            pass
        elif hx is None:
            self.check_input(input, None)
        else:
            self.check_forward_args(input, hx, None)
        if self.batch_first:
            input = input.transpose(0, 1)
            reset = None if reset is None else reset.transpose(0, 1)
        output, hx, *states = compute(input, hx, None, lengths, reset, return_states)
        output = self._in_form(output, batched)
        if not batched:
            hx = (hx[0].squeeze(1), hx[1].squeeze(1))
            # The states are (K, T, N, F), whatever batch_first says.
            states = [type(s)(*(x if x is None else x.squeeze(2) for x in s)) for s in states]
        return output, hx, *states

    def _in_form(self, output: Tensor, batched: bool) -> Tensor:
        """Time-major (T, N, F) as the caller wants it."""
        if not batched:
            return output.squeeze(1)
        return output.transpose(0, 1) if self.batch_first else output

    def _fits(self, input: Tensor, hx: State | None) -> bool:
        """Whether nn.LSTM's checks, which take longer, would surely have nothing to say."""
        shape, H = input.shape, self.hidden_size
        if shape[2] != self.input_size or input.dtype != self._first_weight.dtype:
            return False
        if hx is None:
            return True
        states = self.num_layers * (2 if self.bidirectional else 1)
        N = shape[0 if self.batch_first else 1]
        return hx[0].shape == (states, N, self.proj_size or H) and hx[1].shape == (states, N, H)

    def _forward_packed(
        self, input: PackedSequence, hx: State | None, return_states: bool
    ) -> tuple[Any, ...]:
        data, batch_sizes, sorted_indices, unsorted_indices = input
        self.check_input(data, batch_sizes)
        if hx is not None:
            hx = _reordered(hx, sorted_indices)  # before its check, as in nn.LSTM
            check_pair(type(self).__name__, hx)
            if not is_captured():  # a look at batch_sizes would break the graph
                self.check_forward_args(data, hx, batch_sizes)
        elif unsorted_indices is not None:
            # The batch's size from a shape: from batch_sizes it would break the graph.
            hx = self._zero_state(data, unsorted_indices.shape[0])
        output, hx, *states = self._compute(data, hx, batch_sizes, None, None, return_states)
        packed = PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices)
        return packed, _reordered(hx, unsorted_indices), *states

    def _zero_state(self, input: Tensor, N: int) -> State:
        states = self.num_layers * (2 if self.bidirectional else 1)
        P = self.proj_size or self.hidden_size
        return input.new_zeros(states, N, P), input.new_zeros(states, N, self.hidden_size)

    def extra_repr(self) -> str:
        s = super().extra_repr()
        return s if self.backend is None else f"{s}, backend={self.backend!r}"


def _batched(input: Tensor, hx: State | None) -> State | None:
    """hx with a batch dimension. Raises, in nn.LSTM's words, for ranks that do not fit."""
    dim = input.dim()
    if dim not in (2, 3):
        raise ValueError(f"LSTM: Expected input to be 2D or 3D, got {dim}D instead")
    if hx is None:
        return None
    if hx[0].dim() != dim or hx[1].dim() != dim:
        raise RuntimeError(
            f"For {'batched 3-D' if dim == 3 else 'unbatched 2-D'} input, hx and cx should also be "
            f"{dim}-D but got ({hx[0].dim()}-D, {hx[1].dim()}-D) tensors"
        )
    return hx if dim == 3 else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))


def _reordered(hx: State, rows: Tensor | None) -> State:
    """The batch in another order, as a PackedSequence asks."""
    return hx if rows is None else (hx[0].index_select(1, rows), hx[1].index_select(1, rows))
