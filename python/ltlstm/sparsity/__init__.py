# SPDX-License-Identifier: Apache-2.0
"""Sparse networks: masks, growth and pruning while training, and what to make of the result."""

from ltlstm.sparsity.compact import Compact, compact
from ltlstm.sparsity.counts import Count, count
from ltlstm.sparsity.grow import grow
from ltlstm.sparsity.layout import Layout, matrix_layout
from ltlstm.sparsity.masks import BANK, GRANULARITIES, seed
from ltlstm.sparsity.prune import prune
from ltlstm.sparsity.schedule import Schedule
from ltlstm.sparsity.storage import BlockSparse, block_sparse, from_tensors, load, save, to_tensors
from ltlstm.sparsity.training import GrowPrune
from ltlstm.sparsity.weights import Weight, find_weights

__all__ = [
    "BANK",
    "BlockSparse",
    "Compact",
    "Count",
    "GRANULARITIES",
    "GrowPrune",
    "Layout",
    "Schedule",
    "Weight",
    "block_sparse",
    "compact",
    "count",
    "find_weights",
    "from_tensors",
    "grow",
    "load",
    "matrix_layout",
    "prune",
    "save",
    "seed",
    "to_tensors",
]
