# SPDX-License-Identifier: Apache-2.0
"""revert_ is the inverse of convert_, for tools that ask for nn.LSTM itself."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import ltlstm
from ltlstm.convert import Skipped
from test_convert import D, H, N, T, Tagger, pruned, weight_norm


@pytest.mark.filterwarnings("error")
def test_a_model_is_reverted_in_place() -> None:
    model, x = Tagger().eval(), torch.randn(T, N, D)
    names = ltlstm.convert_report(model).convertible
    before, expected = dict(model.named_parameters()), model(x)
    ltlstm.convert_(model, backend="cpu").train()
    assert ltlstm.revert_report(model) == (names, [])
    kept = model.rnn
    ltlstm.revert_(model, filter_fn=lambda module, name: name != "rnn")
    assert model.rnn is kept and ltlstm.convert_report(model).convertible == names[:-1]
    assert ltlstm.revert_(model) is model
    assert all(type(model.get_submodule(name)) is nn.LSTM for name in names)
    assert model.again is model.encoder["rnn"] and model.stack[0].dropout == 0.5
    assert model.training and model.rnn.training and not hasattr(model.rnn, "backend")
    after = dict(model.named_parameters())
    assert list(after) == list(before) and all(after[k] is before[k] for k in before)
    torch.testing.assert_close(model.eval()(x), expected, rtol=0, atol=0)
    assert ltlstm.revert_report(model) == ([], [])
    assert type(ltlstm.revert_(ltlstm.LSTM(D, H))) is nn.LSTM


def test_what_cannot_be_reverted_is_left_and_named() -> None:
    class Ours(ltlstm.LSTM):
        pass

    model = nn.Sequential(ltlstm.LSTM(D, H), Ours(H, H), ltlstm.LTLSTM(H, H), nn.LSTM(H, H))
    reason = "Ours is a subclass of LSTM, and what it adds would be lost"
    with pytest.warns(UserWarning, match=f"revert_: left as they are: 1: {reason}") as caught:
        ltlstm.revert_(model)
    assert caught[0].filename == __file__
    assert [type(m) for m in model] == [nn.LSTM, Ours, ltlstm.LTLSTM, nn.LSTM]
    assert ltlstm.revert_report(model) == ([], [Skipped("1", reason)])


@pytest.mark.parametrize("change", [weight_norm, pruned])
def test_computed_weights_move_back(change: Any) -> None:
    module = nn.LSTM(D, H)
    change(module)
    model, x = nn.Sequential(module), torch.randn(T, N, D)
    expected, parameters = model(x)[0], dict(model.named_parameters())
    ltlstm.revert_(ltlstm.convert_(model))
    assert isinstance(model[0], nn.LSTM) and all(
        p is parameters[k] for k, p in model.named_parameters()
    )
    torch.testing.assert_close(model(x)[0], expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_reverted_model_is_quantized() -> None:
    model = nn.ModuleDict({"rnn": nn.LSTM(D, H, 2, batch_first=True), "out": nn.Linear(H, 2)})
    model.eval()
    x, types = torch.randn(N, T, D), {nn.LSTM, nn.Linear}
    expected = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), types)
    ltlstm.revert_(ltlstm.convert_(model))
    quantized = torch.ao.quantization.quantize_dynamic(model, types)
    assert type(quantized.rnn) is torch.ao.nn.quantized.dynamic.LSTM
    torch.testing.assert_close(quantized.rnn(x)[0], expected.rnn(x)[0])
