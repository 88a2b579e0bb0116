# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence
from typing import Any

def build_facts() -> dict[str, str | bool]: ...
def cpu_features() -> dict[str, bool]: ...
def assumed_clusters(*, capability: int, sms: int) -> list[int]: ...
def plan(
    *,
    T: int,
    N: int,
    H: int,
    P: int,
    L: int,
    directions: int,
    dtype: str,
    training: bool,
    peephole: bool,
    projection: bool,
    trajectory: bool,
    capability: int,
    sms: int,
    shared_per_block: int,
    registers_per_sm: int,
    clusters: Sequence[int],
    regimes: Sequence[str],
    blocks: int,
    columns: int,
    chunk: int,
    overlap: bool | None,
) -> dict[str, Any]: ...
