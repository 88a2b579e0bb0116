# SPDX-License-Identifier: Apache-2.0
"""ltlstm.HLSTM: a stack of LSTMs whose gates are MLPs, with sparse weights."""

from typing import Any

from torch import Tensor

from ltlstm import functional
from ltlstm.functional.h_lstm import slope_of
from ltlstm.modules.cell_input import batched_cell_input
from ltlstm.modules.compiled import Frozen, frozen
from ltlstm.modules.gates import GateMLPs
from ltlstm.modules.leaf import Leaf
from ltlstm.modules.recurrent import Recurrent, State
from ltlstm_kernels import h_lstm_ops, sparse


class HLSTM(GateMLPs, Recurrent):
    """A stack of LSTMs in which each gate is an MLP of its own over ``[x_t, h_{t-1}]``.

    nn.LSTM's signature, shapes and errors (:class:`ltlstm.LSTM` has them, ``lengths``, ``reset``
    and the states of every step too), with no projection: ``proj_size`` must be 0.

    Args:
        gate_hidden_size: width K of a gate's hidden layers; None is hidden_size.
        gate_num_layers: hidden layers in a gate, 1 or more.
        gate_dropout: rate of dropout on the hidden layers, while training; drawn by torch.
        activation: of the hidden layers: "leaky_relu" (slope 0.01), for growing, or "relu", for
            pruning; an attribute that may be set at any time, and that a state dict carries.

    Parameters, with l{k} the layer, counted from 0, ``_reverse`` after the other direction's, and
    gate order i, f, g, o:
        weight_ih_l{k} (4K, D or dirs*H), weight_hh_l{k} (4K, H), bias_l{k} (4K): the first layer of
        all gates; gate{j}_weight_l{k} (4, out, K), gate{j}_bias_l{k} (4, out), j from 1 to
        gate_num_layers: out = K, but H in the last. Each starts uniform within 1 / sqrt(H), a
        gate{j} within 1 / sqrt(K).

    Buffers: for each weight ``<name>_mask``, bool of its shape, all true at first and where a state
        dict has none. Where it is false the weight in use is zero, whatever the parameter holds
        there. Each call reads them: a write of any kind acts.

    Attributes:
        dense_gradients: False. While True, the gradients of the weights are those of the weights in
            use at every position, dormant ones included, which is what growth ranks them by.

    Inference on the CPU: :meth:`compile_sparse` makes a module of weights whose masks leave little,
    for kernels that skip the rest; this one masks them in each call.

    Raises, beyond LSTM's: TypeError, ValueError for arguments above that do not fit.

    Dai, Yin, Jha, "Grow and Prune Compact, Fast, and Accurate LSTMs", IEEE Trans. Computers 69(3)
    2020, arXiv 1805.11797. Equivalent to :func:`ltlstm.functional.h_lstm`.
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
        gate_hidden_size: int | None = None,
        gate_num_layers: int = 1,
        gate_dropout: float = 0.0,
        activation: str = "leaky_relu",
        backend: str | None = None,
    ) -> None:
        # nn.LSTM's own checks, in its words; its parameters, which cost nothing there, make way.
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, "meta", dtype, backend=backend,
        )  # fmt: skip
        if proj_size != 0:
            raise ValueError(f"HLSTM: proj_size must be 0, got {proj_size}")
        self._set_gates(gate_hidden_size, gate_num_layers, gate_dropout, activation)
        for name in self._flat_weights_names:
            delattr(self, name)
        self._flat_weights_names, self._all_weights = [], []
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size * (2 if bidirectional else 1)
            for reverse in ("", "_reverse")[: 1 + bidirectional]:
                names = self._create(f"_l{layer}{reverse}", inputs, bias, device, dtype)
                self._all_weights.append(names)
        self._flat_weights_names = [name for names in self._all_weights for name in names]
        self._init_flat_weights()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Parameters as they start, and every mask on; options, activation among them, stay."""
        if hasattr(self, "gate_hidden_size"):  # not yet, when nn.RNNBase starts its own
            self._start()

    def compile_sparse(self) -> "CompiledHLSTM | None":
        """A module with the weights as they are now, compiled for inference on the CPU; None where
        the masks leave so much that it would not pay, or no kernel can compute it.

        ::

            model.rnn = model.rnn.compile_sparse() or model.rnn

        This module stays as it is, and what happens to it later does not reach the compiled one. To
        train on, save, move or convert, keep this one. Raises TypeError for a subclass.
        """
        return frozen(self, HLSTM, CompiledHLSTM)

    def _gate_names(self) -> list[str]:
        return self._flat_weights_names

    def _compiled(self) -> list[Tensor]:
        return []

    def _compute(
        self, input: Tensor, hx: State | None, batch_sizes: Tensor | None, lengths: Tensor | None,
        reset: Tensor | None, return_states: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        options = self._options()
        del options["projected"]
        return functional.h_lstm(
            input, hx, self._time_weights(), compiled=self._compiled(), **options,
            gate_dropout=self.gate_dropout, activation=self.activation, batch_sizes=batch_sizes,
            lengths=lengths, reset=reset, return_states=return_states,
        )  # fmt: skip

    _operator_of = "h_lstm"

    def _forward_direct(self, input: Tensor, hx: State) -> tuple[Tensor, State] | None:
        if self.training and self.gate_dropout > 0:
            return None
        return super()._forward_direct(input, hx)

    def _operator(
        self, input: Tensor, h0: Tensor, c0: Tensor, *weights: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        dense = h_lstm_ops.h_lstm_forward(
            input, h0, c0, *weights, bias=self.bias, bidirectional=self.bidirectional,
            slope=slope_of("h_lstm", self.activation), save=False,
        )  # fmt: skip
        return dense[:3]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self._gates_repr()}"


class CompiledHLSTM(Frozen, HLSTM):
    """An :class:`HLSTM` for inference on the CPU, made by :meth:`HLSTM.compile_sparse`.

    Called as HLSTM, with its outputs to rounding, except that a NaN or an infinity which only
    dormant weights read does not reach them. It has no parameters. Refused are: gradients, vmap,
    dropout in training mode, other backends and ``return_states`` (ValueError); another dtype or
    device, state dicts, ``reset_parameters`` and, where it comes from a pickle, a processor of
    other instructions (RuntimeError).
    """

    def _weight_lists(self) -> list[list[Tensor]]:
        return [self._compiled()]

    def _operator(
        self, input: Tensor, h0: Tensor, c0: Tensor, *weights: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        return sparse.h_lstm_sparse_forward(
            input, h0, c0, *weights, bias=self.bias, bidirectional=self.bidirectional,
            slope=slope_of("h_lstm", self.activation),
        )  # fmt: skip


class HLSTMCell(Leaf, GateMLPs):
    """One time step of one layer of an :class:`HLSTM`.

    Args:
        input_size, hidden_size, bias, device, dtype, backend: as for :class:`ltlstm.LSTMCell`.
        gate_hidden_size, gate_num_layers, gate_dropout, activation: as for HLSTM.

    Shapes: input (N, D) or (D,), hx = ``(h, c)``, (N, H) or (H,) each, default zeros -> ``(h, c)``.

    Parameters, buffers and attributes: HLSTM's, with no ``_l{k}`` in their names.

    Raises what nn.LSTMCell raises, in its words; TypeError, ValueError, RuntimeError as HLSTM.

    arXiv 1805.11797. Equivalent to one step of :func:`ltlstm.functional.h_lstm`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
        *,
        gate_hidden_size: int | None = None,
        gate_num_layers: int = 1,
        gate_dropout: float = 0.0,
        activation: str = "leaky_relu",
        backend: str | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.backend = input_size, hidden_size, backend
        self._set_gates(gate_hidden_size, gate_num_layers, gate_dropout, activation)
        self._names = self._create("", input_size, bias, device, dtype)
        if not bias:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """As HLSTM's."""
        self._start()

    def compile_sparse(self) -> "CompiledHLSTMCell | None":
        """:meth:`HLSTM.compile_sparse`, of a cell."""
        return frozen(self, HLSTMCell, CompiledHLSTMCell)

    def _gate_names(self) -> list[str]:
        return self._names

    def _compiled(self) -> list[Tensor]:
        return []

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        """The next ``(h, c)``."""
        batched = input.dim() == 2
        input, hx = batched_cell_input("HLSTMCell", input, hx, self.input_size, self.hidden_size)
        state = None if hx is None else (hx[0].unsqueeze(0), hx[1].unsqueeze(0))
        _, (h, c) = functional.h_lstm(
            input.unsqueeze(0), state, self._time_weights(), compiled=self._compiled(),
            bias=self.bias is not None, gate_dropout=self.gate_dropout, activation=self.activation,
            training=self.training, backend=self.backend,
        )  # fmt: skip
        return (h[0], c[0]) if batched else (h[0, 0], c[0, 0])

    def extra_repr(self) -> str:
        s = f"{self.input_size}, {self.hidden_size}"
        s += "" if self.bias is not None else ", bias=False"
        s += "" if self.backend is None else f", backend={self.backend!r}"
        return f"{s}, {self._gates_repr()}"


class CompiledHLSTMCell(Frozen, HLSTMCell):
    """An :class:`HLSTMCell` for inference on the CPU: as :class:`CompiledHLSTM`, of a cell."""
