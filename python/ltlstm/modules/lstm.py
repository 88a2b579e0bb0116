# SPDX-License-Identifier: Apache-2.0
"""ltlstm.LSTM, a drop-in for torch.nn.LSTM, and ltlstm.ResidualLSTM."""

from typing import Any

from torch import Tensor, nn

from ltlstm import functional
from ltlstm.modules.foreign import obstacle, torch_twin, twin
from ltlstm.modules.recurrent import Recurrent, State, TorchLSTM
from ltlstm_kernels import ops


class LSTM(Recurrent):
    """torch.nn.LSTM on this package's operators: same signature, parameters, start and numbers.

    The same seed gives the same weights and the same outputs, dropout included, and state dicts
    interchange with nn.LSTM's as they are. On top of it: torch.compile(fullgraph=True) and
    torch.export with dynamic sizes, double backward, ``lengths``, ``reset`` and the states of
    every step.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype: as for nn.LSTM.
        backend: one of ``auto, cuda, triton, cpu, aten, reference``; None is what ``use_backend``
            or the variable LTLSTM_BACKEND says, else auto.

    Shapes, with T time steps, N batch, D input, H hidden, P = proj_size or else H, K =
    num_layers * (2 if bidirectional else 1), W = P * (2 if bidirectional else 1):
        input: (T, N, D), with batch_first (N, T, D), unbatched (T, D), or a PackedSequence.
        hx: ``(h_0, c_0)``, (K, N, P) and (K, N, H), unbatched (K, P) and (K, H); default zeros.
        lengths: (N,) integers in 0..T, on any device, in any order: output is zero past the end
            of a row, h_n and c_n are those of its last step, or as given where there is none.
        reset: bool (T, N), with batch_first (N, T), unbatched (T,): the state is zero before that
            step; the reverse direction clears as it crosses.
        output: as input, with W features; a PackedSequence for a PackedSequence.
        h_n, c_n: as h_0, c_0.
        states (if ``return_states``): ``h (K, T, N, P)`` and ``c (K, T, N, H)``, time-major always;
            packed (K, S, ...) for a PackedSequence, in its order.

    Raises:
        ValueError, RuntimeError: what nn.LSTM raises, in its words; ValueError for lengths or reset
            that do not fit or come with a PackedSequence; RuntimeError for a backend, named here,
            that cannot run.

    Hochreiter and Schmidhuber 1997, with forget gates; projection as in arXiv 1402.1128. Equivalent
    to ``torch.nn.LSTM(...)(input, hx)``, or step by step to :func:`ltlstm.functional.lstm`.
    """

    @classmethod
    def from_torch(cls, module: nn.LSTM, *, backend: str | None = None) -> "LSTM":
        """This class around the parameters of an nn.LSTM: the same Parameter objects, no copies.

        Options, training mode, parametrizations, pruning, buffers and hooks come along; the handle
        that a hook's registration gave removes it from ``module`` only. Raises TypeError for
        anything that is not plainly an nn.LSTM, a subclass included.
        """
        reason = obstacle(module, TorchLSTM)
        if reason is not None:
            raise TypeError(f"from_torch: module must be an nn.LSTM, but {reason}")
        made = twin(module, cls, move=False)
        made.backend = backend
        return made

    def to_torch(self) -> nn.LSTM:
        """An nn.LSTM around the same Parameter objects: :meth:`from_torch`, backwards."""
        reason = obstacle(self, LSTM)
        if reason is not None:
            raise TypeError(f"to_torch: the module must be an ltlstm.LSTM, but {reason}")
        return torch_twin(self, move=False)

    _operator_of = "lstm"

    def _operator(
        self, input: Tensor, h0: Tensor, c0: Tensor, *weights: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        return ops.lstm_stack_forward(
            input, h0, c0, *weights, bias=self.bias, projected=self.proj_size > 0, peephole=False,
            bidirectional=self.bidirectional, save=False,
        )[:3]  # fmt: skip

    def _compute(
        self, input: Tensor, hx: State | None, batch_sizes: Tensor | None, lengths: Tensor | None,
        reset: Tensor | None, return_states: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        return functional.lstm(
            input, hx, self._time_weights(), **self._options(), batch_sizes=batch_sizes,
            lengths=lengths, reset=reset, return_states=return_states,
        )  # fmt: skip


class ResidualLSTM(Recurrent):
    """nn.LSTM with shortcuts around its layers: the baseline of the layer trajectory paper.

    Signature, parameters, shapes and errors of :class:`LSTM`; the output has the width of a
    layer. From the second layer on, layer l reads the sum of the outputs of all layers below it,
    and the output is the sum over all layers. Dropout acts on each term of it but the last.

    Li, Liu, Gong, "Layer Trajectory LSTM", Interspeech 2018, arXiv 1808.09522. Equivalent to
    :func:`ltlstm.functional.residual_lstm`; with one layer, to nn.LSTM.
    """

    def _compute(
        self, input: Tensor, hx: State | None, batch_sizes: Tensor | None, lengths: Tensor | None,
        reset: Tensor | None, return_states: bool,
    ) -> tuple[Any, ...]:  # fmt: skip
        return functional.residual_lstm(
            input, hx, self._time_weights(), **self._options(), batch_sizes=batch_sizes,
            lengths=lengths, reset=reset, return_states=return_states,
        )  # fmt: skip
