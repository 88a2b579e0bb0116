# SPDX-License-Identifier: Apache-2.0
"""Small models of every maskable kind, and the training loop that the sparsity tests share."""

import torch
from torch import Tensor, nn

import ltlstm
from ltlstm.sparsity import GrowPrune, Schedule

T, N, D, H, OUT = 5, 3, 7, 10, 4


class Recurrent(nn.Module):
    """A stack and a linear layer that alone reads it."""

    def __init__(self, stack: nn.Module, width: int = H) -> None:
        super().__init__()
        self.stack = stack
        self.output = nn.Linear(width, OUT)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.stack(x)[0])


class Pictures(nn.Sequential):
    """Convolutions; the input of the others, as pictures."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 6, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(6, 4, 3), nn.Flatten(),
            nn.Linear(4 * (T - 2) * (D - 2), OUT),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(0, 1).unsqueeze(1))


class Counting(nn.Identity):
    """Keeps what is no tensor in the state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = {"count": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.calls["count"] += 1
        return x

    def get_extra_state(self) -> dict:
        return self.calls

    def set_extra_state(self, state: dict) -> None:
        self.calls = state


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(D, H), nn.LeakyReLU(), nn.Dropout(0.1), nn.Linear(H, OUT))


MODELS = {
    "mlp": mlp,
    "conv": Pictures,
    "nn_lstm": lambda: Recurrent(nn.LSTM(D, H, 2)),
    "lstm": lambda: Recurrent(ltlstm.LSTM(D, H, 2, bidirectional=True, proj_size=3), 6),
    "lt_lstm": lambda: Recurrent(ltlstm.LTLSTM(D, H, 2)),
    "h_lstm": lambda: Recurrent(ltlstm.HLSTM(D, H, gate_hidden_size=8, gate_dropout=0.1)),
    "dry_h_lstm": lambda: Recurrent(ltlstm.HLSTM(D, H, gate_hidden_size=8)),
    "deep_h_lstm": lambda: Recurrent(
        ltlstm.HLSTM(D, H, 2, bidirectional=True, gate_hidden_size=6, gate_num_layers=2), 2 * H
    ),
}
OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, 0.01, weight_decay=0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.01),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.9, weight_decay=0.1),
}
# Growth after steps 3 and 5, shift after 6, pruning after 6, 8 and 10.
SCHEDULE = Schedule(
    seed=0.4, grow=0.1, grow_from=1, grow_until=5, grow_every=2, shift_at=6, prune=0.25,
    prune_from=6, prune_until=10, prune_every=2,
)  # fmt: skip


def start(kind: str, optimizer: str = "adam", schedule: Schedule = SCHEDULE, **options):
    """model, optimizer, GrowPrune: the same each time."""
    torch.manual_seed(1)
    model = MODELS[kind]()
    made = OPTIMIZERS[optimizer](model.parameters())
    return model, made, GrowPrune(model, schedule, made, **options)


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(T, N, D, generator=generator), torch.randn((), generator=generator)


def backward(model: nn.Module, step: int) -> None:
    x, target = batch(step)
    (model(x) - target).square().mean().backward()


def train(model, optimizer, sparse, steps, each=lambda step: None, take=False) -> None:
    """Goes on for so many steps from the one the GrowPrune is at."""
    for step in range(sparse.steps, sparse.steps + steps):
        optimizer.zero_grad()
        backward(model, step)
        if take:
            sparse.take_gradients()
        optimizer.step()
        sparse.step()
        each(step + 1)
