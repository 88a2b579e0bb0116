# SPDX-License-Identifier: Apache-2.0
"""Which modules read a module's output, as far as it is known: inside nn.Sequential."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from ltlstm.modules.h_lstm import HLSTM
from ltlstm.modules.lstm import LSTM
from ltlstm.modules.recurrent import TorchLSTM
from ltlstm.sparsity.rebuild import addition
from ltlstm.sparsity.weights import CONVOLUTIONS

Readers = Mapping[str, Sequence[str]]  # module -> the modules that alone read its output
# Element by element, and 0 for 0: a unit that is always 0 stays so.
POINTWISE = (
    nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.ReLU, nn.LeakyReLU,
    nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.ReLU6,
)  # fmt: skip
ONE_WEIGHT = (nn.Linear, *CONVOLUTIONS)
STACKS = (TorchLSTM, LSTM, HLSTM)


def sequential_readers(model: nn.Module) -> Iterator[tuple[str, list[str]]]:
    """Inside each nn.Sequential: a module and the next one that is not element by element."""
    for prefix, module in model.named_modules():
        if type(module) is not nn.Sequential:
            continue
        inside = list(module._modules.items())
        for k, (name, made) in enumerate(inside):
            for other, following in inside[k + 1 :]:
                if type(following) in POINTWISE and addition(following) is None:
                    continue
                features = type(made) is nn.Linear and type(following) in (nn.Linear, *STACKS)
                channels = type(made) in CONVOLUTIONS and type(following) in CONVOLUTIONS
                if features or channels:
                    yield join(prefix, name), [join(prefix, other)]
                break


def join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
