# SPDX-License-Identifier: Apache-2.0
"""ltlstm.LTLSTM: the layer trajectory LSTM."""

from ltlstm.modules.recurrent import State
from ltlstm.modules.stream import Stream
from ltlstm.modules.trajectory import Trajectory


class LTLSTM(Trajectory):
    """A stack of time-LSTMs, and a layer-LSTM that recurs over the layers at each time step.

    nn.LSTM's signature, parameters and shapes (:class:`ltlstm.LSTM` has them, ``lengths``,
    ``reset`` and errors too) for the time part, so an nn.LSTM checkpoint warm-starts it:
    ``load_state_dict(checkpoint, strict=False)`` misses only ``traj_*`` and ``peephole_*``. For one
    seed the time part starts as nn.LSTM does.

    Args:
        peephole: peephole connections in both lanes.
        share_layer_weights: one set of layer-LSTM weights for all layers.
        depth_unit: what recurs over the layers: "lstm", "gated" or "max".
        lookahead: frames of the layer below that each layer from the second on reads ahead;
            (num_layers - 1) * lookahead in all. They read across no reset and no end.
        traj_dropout: ``dropout`` acts, too, on h where the layer-LSTM reads it.
        lanes: the time-LSTMs and the layer-LSTMs side by side, or one after the other with all
            cores; None takes what is faster. The results are the same.

    Shapes, beyond LSTM's, with G = hidden_size and Q = (proj_size or hidden_size), both doubled if
    bidirectional (the layer-LSTM reads both directions at once), L layers:
        output: as LSTM's, Q features; it is g of the last layer.
        h_n, c_n: of the time-LSTMs; the layer-LSTM keeps nothing from step to step.
        states (if ``return_states``): LSTM's ``h, c``, and ``g (L, T, N, Q)``, ``m (L, T, N, G)``;
            m is None for the units "gated" and "max", which have no cell.

    Parameters, beyond nn.LSTM's, with l{k} the layer, counted from 0, and no ``_l{k}`` when shared:
        peephole_l{k}[_reverse] (3, H); traj_weight_ih_l{k} (4G, Q), traj_weight_hh_l{k} (4G, Q)
        from k = 1 on, traj_bias_ih_l{k}, traj_bias_hh_l{k} (4G), traj_weight_hr_l{k} (Q, G) with
        projection, traj_peephole_l{k} (3, G), traj_context_l{k} (lookahead + 1, Q) from k = 1 on.

    Raises, beyond LSTM's: ValueError for an unknown depth_unit or a negative lookahead.

    Li, Liu, Gong, "Layer Trajectory LSTM", Interspeech 2018, arXiv 1808.09522: its equations for
    the time-LSTM and the layer-LSTM; units of its sequel (SLT 2018); look-ahead as in arXiv
    1904.12295. Equivalent to :func:`ltlstm.functional.lt_lstm`, which says it in code.
    """

    _operator_of = "lt_lstm"

    def stream(self, hx: State | None = None) -> Stream:
        """Starts to compute chunk by chunk: :class:`ltlstm.modules.stream.Stream`.

        Raises ValueError for a bidirectional module.
        """
        return Stream(self, hx)
