# SPDX-License-Identifier: Apache-2.0
"""Modules that torch.fx.symbolic_trace calls and does not enter, as it does torch's own."""

from typing import Any

from torch import nn


class Leaf(nn.Module):
    """A mixin. Torch knows its own modules by where the instance says it is from.

    So the instances of our classes say "torch.nn"; the class, which pickle, repr and torch.package
    ask, says the truth, and a class that is derived elsewhere is entered, as one of nn.LSTM's is.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        if cls.__module__.startswith(f"{__package__}."):
            vars(made)["__module__"] = nn.__name__
        return made
