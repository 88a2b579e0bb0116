# SPDX-License-Identifier: Apache-2.0
"""patch_torch: torch.nn.LSTM is ours inside, and torch's again whatever happens."""

import pickle
import threading

import pytest
import torch
from torch import nn

import ltlstm

THEIRS = torch.nn.LSTM


def test_inside_and_after() -> None:
    with ltlstm.patch_torch():
        assert nn.LSTM is torch.nn.modules.LSTM is ltlstm.LSTM
        module = nn.LSTM(4, 3, 2)
        assert isinstance(module, nn.LSTM)

        class Derived(torch.nn.LSTM):
            pass

        from torch.nn import LSTM

        assert LSTM is ltlstm.LSTM
    assert nn.LSTM is torch.nn.modules.LSTM is torch.nn.modules.rnn.LSTM is THEIRS
    assert type(module) is ltlstm.LSTM and issubclass(Derived, ltlstm.LSTM)
    module(torch.randn(5, 2, 4))[0].sum().backward()


def test_nested_and_after_an_error() -> None:
    with pytest.raises(KeyError), ltlstm.patch_torch():
        with ltlstm.patch_torch():
            pass
        assert nn.LSTM is ltlstm.LSTM
        raise KeyError
    assert nn.LSTM is THEIRS


def test_blocks_of_two_threads_that_overlap() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with ltlstm.patch_torch():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=other)
    with ltlstm.patch_torch():
        thread.start()
        inside.wait()
    assert nn.LSTM is ltlstm.LSTM
    leave.set()
    thread.join()
    assert nn.LSTM is THEIRS


def test_our_modules_work_inside() -> None:
    theirs = nn.LSTM(4, 3)
    with ltlstm.patch_torch():
        with pytest.raises(ValueError, match="LSTM: Expected input to be 2D or 3D, got 1D"):
            nn.LSTM(4, 3)(torch.ones(4))
        with pytest.raises(RuntimeError, match="Expected hidden"):
            nn.LSTM(4, 3)(torch.ones(5, 2, 4), (torch.ones(1, 1, 3), torch.ones(1, 1, 3)))
        assert type(ltlstm.convert_(theirs)) is type(ltlstm.LSTM.from_torch(theirs)) is nn.LSTM
        assert type(nn.LSTM(4, 3).to_torch()) is THEIRS


def test_pickles_cross_the_border() -> None:
    theirs, x = nn.LSTM(4, 3), torch.randn(5, 2, 4)
    with ltlstm.patch_torch():
        twin = pickle.loads(pickle.dumps(theirs))
        ours = pickle.loads(pickle.dumps(nn.LSTM(4, 3)))
    assert type(twin) is THEIRS and torch.equal(twin(x)[0], theirs(x)[0])
    assert type(ours) is ltlstm.LSTM and ours.backend is None
