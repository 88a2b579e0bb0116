# SPDX-License-Identifier: Apache-2.0
"""What leaves the process: an AOTInductor package, safetensors, deep copies and pickles."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.export import Dim

import ltlstm

D, H = 3, 4
MAKERS: dict[str, Any] = {
    "lstm": lambda: ltlstm.LSTM(D, H, 2, bidirectional=True, proj_size=2),
    "residual": lambda: ltlstm.ResidualLSTM(D, H, 3),
    "lt": lambda: ltlstm.LTLSTM(D, H, 2, peephole=True, lookahead=1),
    "shared": lambda: ltlstm.LTLSTM(D, H, 3, share_layer_weights=True, proj_size=2),
    "cell": lambda: ltlstm.LTLSTMCell(D, H, 2),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = ltlstm.LSTM(D, H, 2, batch_first=True, bidirectional=True, dropout=0.5)
        self.lt = ltlstm.LTLSTM(2 * H, H, 3, batch_first=True, proj_size=2, lookahead=1)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, (h, c) = self.lstm(x, lengths=lengths)
        return self.lt(x, lengths=lengths)[0], h, c


@pytest.mark.parametrize("make", [ltlstm.LSTM, ltlstm.LTLSTM, ltlstm.ResidualLSTM, ltlstm.HLSTM])
def test_an_exported_program_gives_the_states(make: Any, tmp_path: Path) -> None:
    module, x, path = make(H, H, 2), torch.randn(5, 2, H), tmp_path / "program.pt2"
    torch.export.save(torch.export.export(module, (x,), {"return_states": True}), path)
    expected = module(x, return_states=True)[2]
    found = torch.export.load(path).module()(x, return_states=True)[2]
    assert type(found) is type(expected)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_one_aot_inductor_package_serves_any_size(tmp_path: Path) -> None:
    model = Both().eval()
    time, batch = Dim("T", max=1000), Dim("N", max=1000)
    program = torch.export.export(
        model,
        (torch.randn(4, 5, D), torch.tensor([3, 5, 1, 5])),
        dynamic_shapes=({0: batch, 1: time}, {0: batch}),
    )
    path = torch._inductor.aoti_compile_and_package(
        program, package_path=str(tmp_path / "model.pt2")
    )
    package = torch._inductor.aoti_load_package(path)
    for T, lengths in ((5, [2, 5, 1, 4]), (1, [1]), (9, [9, 9, 3, 1, 4, 8, 2])):
        x, ends = torch.randn(len(lengths), T, D), torch.tensor(lengths)
        with torch.no_grad():
            for found, want in zip(package(x, ends), model(x, ends), strict=True):
                torch.testing.assert_close(found, want)


@EVERY
def test_safetensors(name: str, tmp_path: Path) -> None:
    module, twin = MAKERS[name](), MAKERS[name]()
    save_file(module.state_dict(), tmp_path / "a.safetensors")  # refuses tensors that share memory
    twin.load_state_dict(load_file(tmp_path / "a.safetensors"))
    assert all(torch.equal(v, module.state_dict()[k]) for k, v in twin.state_dict().items())
    other = MAKERS[name]()
    save_model(module, tmp_path / "b.safetensors")
    load_model(other, tmp_path / "b.safetensors")
    x = torch.randn(2, D) if name == "cell" else torch.randn(5, 2, D)
    assert torch.equal(other(x)[0], module(x)[0]) and torch.equal(twin(x)[0], module(x)[0])


def test_safetensors_of_nn_lstm_and_of_tied_weights(tmp_path: Path) -> None:
    theirs, ours = nn.LSTM(D, H, 2), ltlstm.LSTM(D, H, 2)
    save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours.load_state_dict(load_file(tmp_path / "theirs.safetensors"))
    assert all(torch.equal(v, ours.state_dict()[k]) for k, v in theirs.state_dict().items())
    ours.weight_hh_l1 = ours.weight_hh_l0
    save_model(ours, tmp_path / "tied.safetensors")
    twin = ltlstm.LSTM(D, H, 2)
    twin.weight_hh_l1 = twin.weight_hh_l0
    load_model(twin, tmp_path / "tied.safetensors")
    assert torch.equal(twin.weight_hh_l1, ours.weight_hh_l1)


@EVERY
@pytest.mark.parametrize("when", ["new", "called", "trained"])
@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_and_train_apart(way: Any, when: str, name: str) -> None:
    module = MAKERS[name]()
    x = torch.randn(2, D) if name == "cell" else torch.randn(5, 2, D)
    if when != "new":
        output = module(x)[0]
        if when == "trained":
            output.sum().backward()
    twin = way(module)
    assert torch.equal(twin(x)[0], module(x)[0])
    before = {k: v.clone() for k, v in module.state_dict().items()}
    twin(x)[0].square().sum().backward()
    torch.optim.SGD(twin.parameters(), 1.0).step()
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not torch.equal(twin(x)[0], module(x)[0])
