# SPDX-License-Identifier: Apache-2.0
"""torch.nn.utils' call_for_per_sample_grads: one gradient a sample, as from samples one by one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils._per_sample_grad import call_for_per_sample_grads
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import ltlstm

T, N, D, H = 4, 3, 5, 3
MAKERS: dict[str, Callable[..., nn.Module]] = {
    "lstm": lambda **k: ltlstm.LSTM(D, H, 2, **k),
    "bidirectional": lambda **k: ltlstm.LSTM(D, H, bidirectional=True, bias=False, **k),
    "projected": lambda **k: ltlstm.LSTM(D, H, proj_size=2, **k),
    "residual": lambda **k: ltlstm.ResidualLSTM(D, H, 2, **k),
}
EVERY = pytest.mark.parametrize("name", MAKERS)


def assert_per_sample(module: nn.Module, alone: Callable[[int], Tensor], count: int) -> None:
    for i in range(count):
        want = torch.autograd.grad(alone(i).square().sum(), list(module.parameters()))
        for parameter, w in zip(module.parameters(), want, strict=True):
            found: Any = parameter.grad_sample  # type: ignore[attr-defined]
            torch.testing.assert_close(found[i], w)


@pytest.mark.parametrize("steps", [T, N])  # as many as samples, too: neither may stand for both
@pytest.mark.parametrize("batch_first", [True, False])
@EVERY
def test_of_a_batch(name: str, batch_first: bool, steps: int) -> None:
    module = MAKERS[name](batch_first=batch_first)
    x = torch.randn(N, steps, D) if batch_first else torch.randn(steps, N, D)
    call_for_per_sample_grads(module, batch_first=batch_first)(x)[0].square().sum().backward()
    assert_per_sample(module, lambda i: module(x.narrow(0 if batch_first else 1, i, 1))[0], N)


@EVERY
def test_of_packed_data(name: str) -> None:
    module, x, lengths = MAKERS[name](), torch.randn(T, N, D), torch.tensor([4, 3, 1])
    packed = pack_padded_sequence(x, lengths)
    output = call_for_per_sample_grads(module, batch_size=N)(packed)[0]
    pad_packed_sequence(output)[0].square().sum().backward()
    assert_per_sample(module, lambda i: module(x[: lengths[i], i : i + 1])[0], N)


def test_a_mean_is_scaled() -> None:
    module, x = ltlstm.LSTM(D, H, batch_first=True), torch.randn(N, T, D)
    found = []
    for reduction, reduce in (("mean", torch.mean), ("sum", torch.sum)):
        call = call_for_per_sample_grads(module, loss_reduction=reduction)
        reduce(call(x)[0].flatten(1).sum(1)).backward()
        found.append([p.grad_sample for p in module.parameters()])  # type: ignore[attr-defined]
        for p in module.parameters():
            del p.grad_sample  # type: ignore[attr-defined]
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    "make", [lambda: ltlstm.LTLSTM(D, H, 2), lambda: ltlstm.LSTM(D, H, backend="reference")]
)
def test_what_cannot_says_so_and_what_to_write(make: Callable[[], nn.Module]) -> None:
    # Steps and samples of one number would be taken for each other without a word.
    with pytest.raises(RuntimeError, match="per-sample ones .torch.func.vmap over"):
        call_for_per_sample_grads(make(), batch_first=False)(torch.randn(N, N, D))
