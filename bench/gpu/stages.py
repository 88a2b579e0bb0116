# SPDX-License-Identifier: Apache-2.0
"""The stages of bench/gpu.sh in their order: what is right comes first, then what matters most."""

from importlib import import_module
from typing import NamedTuple

from bench.gpu.target import Target


class Stage(NamedTuple):
    run: str  # "module:function" of this package, imported when its turn comes
    seconds: float  # it may take
    ours: bool = True  # it calls our operators in its own process

    def __call__(self, target: Target) -> None:
        module, function = self.run.split(":")
        getattr(import_module(f"bench.gpu.{module}"), function)(target)


# Together they may take longer than the budget: the last are cut then.
STAGES = {
    "library": Stage("library:library", 60),
    "regimes": Stage("parity:regimes", 50),
    "cudnn": Stage("cudnn:cudnn", 40, ours=False),
    "rows": Stage("grid:first_rows", 75),
    "wrappers": Stage("wrappers:wrappers", 30, ours=False),
    "hops": Stage("hops:hops", 45, ours=False),
    "concurrent": Stage("hops:concurrent", 30, ours=False),
    "parity": Stage("parity:parity", 60),
    "lt_lstm": Stage("grid:lt_lstm", 50),
    "hlstm": Stage("hlstm:hlstm", 60),
    "grid": Stage("grid:grid", 110),
    "graphs": Stage("grid:graphs", 20),
    "second": Stage("parity:second_device", 20, ours=False),
    "suite": Stage("suite:suite", 110, ours=False),
    "memcheck": Stage("sanitize:memcheck", 45),
    "racecheck": Stage("sanitize:racecheck", 45),
    "synccheck": Stage("sanitize:synccheck", 40),
    "initcheck": Stage("sanitize:initcheck", 40),
}
