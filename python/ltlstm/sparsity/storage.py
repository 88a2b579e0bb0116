# SPDX-License-Identifier: Apache-2.0
"""Sparse models on disk: a compact model with its sizes, and weights as their non-empty blocks."""

from __future__ import annotations

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ltlstm import files
from ltlstm.modules.gates import SLOPE
from ltlstm.sparsity.counts import in_use
from ltlstm.sparsity.masks import CPU
from ltlstm.sparsity.rebuild import all_sizes, with_sizes
from ltlstm.sparsity.weights import find_weights

# The keys of a file's metadata.
SIZES = "ltlstm.sizes"
SAME = "ltlstm.same"  # names of tied tensors, each with the one under which it is kept
PARTS = ("rows", "columns", "values")


class BlockSparse(NamedTuple):
    """The blocks of a weight that are not all zero, row by row, gate after gate.

    A weight of gates * R rows and C columns has ceil(R / height) block rows a gate; where the block
    does not divide, the last ones are padded with zeros.
    """

    shape: tuple[int, ...]  # of the parameter
    gates: int
    block: tuple[int, int]  # height, width
    rows: Tensor  # (block rows + 1,) int64: where each block row begins among the blocks
    columns: Tensor  # (blocks,) int64: the block column
    values: Tensor  # (blocks, height, width)

    def dense(self) -> Tensor:
        """The weight as it acts, of the parameter's shape."""
        columns = self.shape[-1] if len(self.shape) > 1 else 1
        rows = math.prod(self.shape) // columns // self.gates
        height, width = self.block
        grid = (-(-rows // height) * self.gates, -(-columns // width))
        blocks = self.values.new_zeros(*grid, height, width)
        of_block = torch.repeat_interleave(
            torch.arange(grid[0], device=self.rows.device), self.rows.diff()
        )
        blocks[of_block, self.columns] = self.values
        whole = blocks.transpose(1, 2).reshape(self.gates, -1, grid[1] * width)
        return whole[:, :rows, :columns].reshape(self.shape)


def block_sparse(model: nn.Module, block: tuple[int, int] = (16, 16)) -> dict[str, BlockSparse]:
    """Each maskable weight of the model by its non-empty blocks; (1, 1) is compressed rows.

    A convolution's kernel counts as columns: its weight is (out, in * positions).
    """
    height, width = block
    if height < 1 or width < 1:
        raise ValueError(f"block_sparse: block must be two positive sizes, got {block}")
    found = {}
    for weight in find_weights(model):
        layout = weight.layout
        value = layout.view(in_use(weight))
        value = pad(value, (0, -layout.columns % width, 0, -layout.rows % height))
        tiles = value.reshape(-1, height, value.shape[2] // width, width).transpose(1, 2)
        there = (tiles != 0).any(3).any(2)  # (block rows of all gates, block columns)
        rows = pad(there.sum(1).cumsum(0), (1, 0))
        shape = tuple(weight.parameter.shape)
        if layout.span > 1:
            shape = (shape[0], layout.columns)
        found[weight.name] = BlockSparse(
            shape, layout.gates, (height, width), rows, there.nonzero()[:, 1], tiles[there]
        )
    return found


def save(path: str | os.PathLike[str], model: nn.Module) -> None:
    """The state dict of a model, compacted or not, with the sizes of its modules.

    After an OSError the path holds what it held before.

    A path that ends in ``.safetensors`` gets that format, which wants the safetensors package and
    holds tensors only (TypeError for another extra state); any other torch.save's.
    """
    state = {
        name: value.detach().contiguous() if isinstance(value, Tensor) else value
        for name, value in model.state_dict().items()
    }
    sizes = json.dumps(all_sizes(model))
    if os.fspath(path).endswith(".safetensors"):
        for name, value in state.items():
            if not isinstance(value, Tensor):
                raise TypeError(
                    f"sparsity.save: {name} must be a tensor in a .safetensors file, got a "
                    f"{type(value).__name__}"
                )
        from safetensors.torch import save as packed  # type: ignore[import-not-found]

        state, same = _apart(state)
        metadata = {SIZES: sizes, SAME: json.dumps(same)}
        files.write_atomically(pathlib.Path(path), packed(state, metadata))
    else:
        files.save_tensors(pathlib.Path(path), {"state": state, SIZES: sizes})


def _apart(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors that share no memory, as safetensors wants them, and for names of the same tensor the
    first of them."""
    found: dict[str, Tensor] = {}
    same: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    used: set[int] = set()
    for name, value in state.items():
        memory = value.untyped_storage().data_ptr()
        place = (memory, value.storage_offset(), value.dtype, value.shape)
        if first.setdefault(place, name) != name:
            same[name] = first[place]
            continue
        found[name] = value.clone() if memory in used else value
        used.add(memory)
    return found, same


def load(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """A copy of ``model``, which may be of full size, in the sizes and with the values of the file.

    Raises ValueError where the file has no sizes or is of other modules; RuntimeError, as
    load_state_dict, for other parameters.
    """
    state, sizes = _read(path)
    if sizes is None:
        raise ValueError(f"sparsity.load: {os.fspath(path)} must have been saved by sparsity.save")
    wanted = json.loads(sizes)
    made = with_sizes(model, wanted)
    state = dict(state)
    for name, options in wanted.items():
        if options.get("activation") == "relu":  # as files had it before state dicts did
            state.setdefault(f"{name}.{SLOPE}" if name else SLOPE, torch.zeros((), device=CPU))
    made.load_state_dict(state)
    return made


def _read(path: str | os.PathLike[str]) -> tuple[Mapping[str, Any], str | None]:
    if os.fspath(path).endswith(".safetensors"):
        from safetensors import safe_open  # type: ignore[import-not-found]

        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}
        same = json.loads(metadata.get(SAME, "{}"))
        return state | {name: state[first] for name, first in same.items()}, metadata.get(SIZES)
    content: Any = torch.load(path, weights_only=True)
    if not isinstance(content, dict) or SIZES not in content:
        return {}, None
    return content["state"], content[SIZES]


def to_tensors(weights: Mapping[str, BlockSparse]) -> dict[str, Tensor]:
    """A flat dict of tensors, for safetensors or torch.save: :func:`from_tensors` reads it back."""
    found = {}
    for name, weight in weights.items():
        facts = (weight.gates, *weight.block, *weight.shape)
        found[f"{name}.shape"] = torch.tensor(facts, device=CPU)
        found |= {f"{name}.{part}": getattr(weight, part).contiguous() for part in PARTS}
    return found


def from_tensors(tensors: Mapping[str, Tensor]) -> dict[str, BlockSparse]:
    """What :func:`to_tensors` made a dict of."""
    found = {}
    for key, value in tensors.items():
        name, _, part = key.rpartition(".")
        if part == "shape":
            gates, height, width, *shape = value.tolist()
            rest = (tensors[f"{name}.{each}"] for each in PARTS)
            found[name] = BlockSparse(tuple(shape), gates, (height, width), *rest)
    return found
