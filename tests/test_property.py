# SPDX-License-Identifier: Apache-2.0
"""Any constructor and any input: ltlstm.LSTM against nn.LSTM, LTLSTM against the reference.

Outputs, states and every gradient, of examples that hypothesis draws; the same ones in each run.
"""

import copy
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import ltlstm
from module_results import F32, F64, State, results_of
from tolerance import assert_close

FORMS = ("padded", "transposed", "unbatched", "packed", "packed_sorted")


class Example(NamedTuple):
    options: dict[str, Any]
    form: str
    T: int
    lengths: list[int]
    training: bool
    with_state: bool
    dtype: torch.dtype
    backend: str | None
    seed: int


@st.composite
def options_of(draw: Any) -> dict[str, Any]:
    H = draw(st.integers(1, 9))
    return {
        "input_size": draw(st.integers(1, 7)),
        "hidden_size": H,
        "num_layers": draw(st.integers(1, 3)),
        "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "dropout": draw(st.sampled_from([0, 0.3, 1.0])),
        "bidirectional": draw(st.booleans()),
        "proj_size": draw(st.integers(0, H - 1)),
    }


@st.composite
def trajectory_options_of(draw: Any) -> dict[str, Any]:
    return {
        **draw(options_of()),
        "peephole": draw(st.booleans()),
        "share_layer_weights": draw(st.booleans()),
        "depth_unit": draw(st.sampled_from(["lstm", "gated", "max"])),
        "lookahead": draw(st.integers(0, 2)),
        "traj_dropout": draw(st.booleans()),
    }


@st.composite
def examples(draw: Any, options: Any, forms: tuple[str, ...], backends: list[str | None]) -> Any:
    T, form = draw(st.integers(1, 6)), draw(st.sampled_from(forms))
    least = 1 if "packed" in form or form == "unbatched" else 0
    N = 1 if form == "unbatched" else draw(st.integers(least, 5))
    return Example(
        draw(options),
        form,
        T,
        draw(st.lists(st.integers(1, T), min_size=N, max_size=N)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([F32, F64])),
        draw(st.sampled_from(backends)),
        draw(st.integers(0, 2**16)),
    )


def input_and_state(e: Example) -> tuple[Any, State | None]:
    """What fits the module, drawn in float32."""
    o, N = e.options, len(e.lengths)
    x = torch.randn(e.T, N, o["input_size"])
    if o["batch_first"] and e.form != "unbatched":
        x = x.transpose(0, 1)
    K = o["num_layers"] * (2 if o["bidirectional"] else 1)
    H = o["hidden_size"]
    h, c = torch.randn(K, N, o["proj_size"] or H), torch.randn(K, N, H)
    if e.form == "unbatched":
        x, h, c = x[:, 0], h[:, 0], c[:, 0]
    elif e.form == "transposed":  # the strides of a sliced and transposed tensor
        x = torch.stack([x, x], -1).transpose(0, 1).contiguous().transpose(0, 1)[..., 0]
        h = torch.stack([h, h])[1]
    elif e.form.startswith("packed"):
        falling = e.form == "packed_sorted"
        lengths = sorted(e.lengths, reverse=True) if falling else e.lengths
        x = pack_padded_sequence(
            x, torch.tensor(lengths), batch_first=o["batch_first"], enforce_sorted=falling
        )
    return x, (h, c) if e.with_state else None


def check_together(
    ours: nn.Module, oracle: nn.Module, e: Example, x: Any, hx: State | None, **kwargs: Any
) -> None:
    """The tolerance rule over all results at once: of so many examples, some have a small result
    in which plain torch happens to be exact."""
    runs = [(ours, e.dtype), (oracle, F64), (oracle, F32)]
    found, truth, plain = (results_of(m, x, hx, dtype, **kwargs) for m, dtype in runs)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in truth.items()}
    whole = [torch.cat([v.flatten() for v in named.values()]) for named in (found, truth, plain)]
    assert_close(*whole)


@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@settings(max_examples=300, derandomize=True)
@given(examples(options_of(), FORMS, [None, "cpu", "aten", "reference"]))
def test_lstm_is_nn_lstm(e: Example) -> None:
    torch.manual_seed(e.seed)
    theirs = nn.LSTM(**e.options).train(e.training)
    torch.manual_seed(e.seed)
    ours = ltlstm.LSTM(**e.options, backend=e.backend).train(e.training)
    x, hx = input_and_state(e)
    check_together(ours, theirs, e, x, hx)


LT_FORMS = (*FORMS, "lengths", "reset")


@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
@settings(max_examples=150, derandomize=True)
@given(examples(trajectory_options_of(), LT_FORMS, [None, "aten"]), st.booleans())
def test_lt_lstm_is_the_reference(e: Example, return_states: bool) -> None:
    kwargs: dict[str, Any] = {"return_states": return_states}
    on_aten = e.backend == "aten" and not e.options["peephole"] and e.form != "reset"
    torch.manual_seed(e.seed)
    ours = ltlstm.LTLSTM(**e.options).train(e.training)
    if on_aten and not return_states:
        ours.backend = "aten"
    for name, parameter in ours.named_parameters():
        if "context" in name:
            nn.init.normal_(parameter)
    reference = copy.deepcopy(ours)
    reference.backend = "reference"
    x, hx = input_and_state(e)
    if e.form == "lengths":
        kwargs["lengths"] = torch.tensor(e.lengths, dtype=torch.long)
    if e.form == "reset":
        kwargs["reset"] = torch.rand(x.shape[:2]) < 0.3
    check_together(ours, reference, e, x, hx, **kwargs)
