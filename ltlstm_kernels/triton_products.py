# SPDX-License-Identifier: Apache-2.0
"""What the H-LSTM's time loops are made of: products over live blocks, and the barrier between hops.

A weight of a gate layer is cut into blocks of BLOCK x BLOCK. For each of its block rows a list says
which blocks are live (`triton_blocks.py`); the others are never read. A program has a few batch rows
and, at a time, UNITS block rows of each of the four gates, DEPTH live blocks of each in one product:
the products of different block rows are independent, so that each warp has its own.

Values in a step pass from hop to hop through memory, where the programs that share the batch rows
find them; what a program wrote itself it finds in its L1 cache. A barrier lies between.

Offsets of 64 bits are scalars, of a gate's weight or of the first row; within those, 32 bits: half
the registers.
"""

import triton
import triton.language as tl

# About four seconds of polling; then the launch fails, instead of holding the device for ever.
POLLS = tl.constexpr(1 << 22)


@triton.jit
def barrier(arrivals, target, SHARED: tl.constexpr):
    """No program of a group goes on before `target` arrivals were counted; alone, no warp before the
    others. What was stored before it can be loaded after it.

    SHARED: several programs share the group's batch rows. They must all be resident.
    """
    tl.debug_barrier()
    if SHARED:
        tl.atomic_add(arrivals, 1, sem="release", scope="gpu")
        polls = 0
        while (tl.atomic_add(arrivals, 0, sem="acquire", scope="gpu") < target) & (polls < POLLS):
            polls += 1
        if polls == POLLS:
            tl.inline_asm_elementwise(
                "{ trap; mov.u32 $0, $1; }", "=r,r", [polls], dtype=tl.int32, is_pure=False, pack=1
            )
        tl.debug_barrier()


@triton.jit
def outputs(tile, outs, live, UNITS: tl.constexpr, BLOCK: tl.constexpr):
    """Which outputs a tile of block rows has (UNITS, BLOCK), and where (UNITS, ROWS, BLOCK) they exist
    in live rows."""
    unit = tile * UNITS + tl.arange(0, UNITS)
    out = unit[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    return out, live[None, :, None] & (out < outs)[:, None, :]


@triton.jit
def load_gates(pointers, step, valid):
    """What lies at the pointers, and `step` and twice and three times `step` behind, in float32."""
    i = tl.load(pointers, mask=valid, other=0.0).to(tl.float32)
    f = tl.load(pointers + step, mask=valid, other=0.0).to(tl.float32)
    g = tl.load(pointers + 2 * step, mask=valid, other=0.0).to(tl.float32)
    o = tl.load(pointers + 3 * step, mask=valid, other=0.0).to(tl.float32)
    return i, f, g, o


@triton.jit
def store_gates(pointers, step, valid, i, f, g, o):
    dtype = pointers.dtype.element_ty
    tl.store(pointers, i.to(dtype), mask=valid)
    tl.store(pointers + step, f.to(dtype), mask=valid)
    tl.store(pointers + 2 * step, g.to(dtype), mask=valid)
    tl.store(pointers + 3 * step, o.to(dtype), mask=valid)


@triton.jit
def _accumulate(
    acc, source, rows, live_rows, weight, columns, count, slot, out, width, outs, out_step, in_step,
    BLOCK: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """acc (UNITS, ROWS, BLOCK) and the product over the live blocks from `slot` on.

    rows (ROWS,) where a row of the source begins, columns (UNITS,) pointers to the lists, count
    (UNITS,) their lengths, out (UNITS, BLOCK) output indices. The element of the weight at output o
    and input k lies at o * out_step + k * in_step.
    """
    k = tl.arange(0, BLOCK * DEPTH)
    slots = slot + k // BLOCK
    listed = slots[None, :] < count[:, None]
    block = tl.load(columns[:, None] + slots[None, :], mask=listed, other=0)
    inputs = block * BLOCK + (k % BLOCK)[None, :]
    # Only the lists know it: a loaded index has no known alignment, and loads would be of one element.
    inputs = tl.max_contiguous(tl.multiple_of(inputs, (1, BLOCK)), (1, BLOCK))
    listed = listed & (inputs < width)
    x = tl.load(
        source + rows[None, :, None] + inputs[:, None, :],
        mask=listed[:, None, :] & live_rows[None, :, None],
        other=0.0,
    )
    w = tl.load(
        weight + out[:, None, :] * out_step + inputs[:, :, None] * in_step,
        mask=listed[:, :, None] & (out < outs)[:, None, :],
        other=0.0,
    )
    # float32 as it is: TF32 would miss the accuracy of plain torch.
    return tl.dot(x, w, acc, input_precision="ieee")


@triton.jit
def gate_products(
    source, rows, live_rows, gate_step, weight, columns, counts, blocks, capacity, tile, width, outs,
    out_step, in_step,
    BLOCK: tl.constexpr, DEPTH: tl.constexpr, UNITS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """The products of the four gates for one tile of units: four (UNITS, ROWS, BLOCK) of float32.

    source: of gate i; the others' inputs lie `gate_step` further each. weight: four matrices of outs
    outputs and width inputs, one behind the other. columns (4 * blocks, capacity), counts (4 *
    blocks,): the lists of this layer's block rows, gate after gate.
    """
    unit = tile * UNITS + tl.arange(0, UNITS)
    mine = unit < blocks
    out = unit[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    n_i = tl.load(counts + unit, mask=mine, other=0)
    n_f = tl.load(counts + blocks + unit, mask=mine, other=0)
    n_g = tl.load(counts + 2 * blocks + unit, mask=mine, other=0)
    n_o = tl.load(counts + 3 * blocks + unit, mask=mine, other=0)
    longest = tl.max(tl.maximum(tl.maximum(n_i, n_f), tl.maximum(n_g, n_o)), axis=0)
    lists = columns + unit * capacity
    list_step = blocks * capacity
    weight_step = tl.cast(outs, tl.int64) * width
    z_i = tl.zeros((UNITS, ROWS, BLOCK), tl.float32)
    z_f = tl.zeros((UNITS, ROWS, BLOCK), tl.float32)
    z_g = tl.zeros((UNITS, ROWS, BLOCK), tl.float32)
    z_o = tl.zeros((UNITS, ROWS, BLOCK), tl.float32)
    for slot in range(0, longest, DEPTH):
        z_i = _accumulate(
            z_i, source, rows, live_rows, weight, lists, n_i, slot, out, width, outs, out_step,
            in_step, BLOCK, DEPTH,
        )  # fmt: skip
        z_f = _accumulate(
            z_f, source + gate_step, rows, live_rows, weight + weight_step, lists + list_step, n_f,
            slot, out, width, outs, out_step, in_step, BLOCK, DEPTH,
        )  # fmt: skip
        z_g = _accumulate(
            z_g, source + 2 * gate_step, rows, live_rows, weight + 2 * weight_step,
            lists + 2 * list_step, n_g, slot, out, width, outs, out_step, in_step, BLOCK, DEPTH,
        )  # fmt: skip
        z_o = _accumulate(
            z_o, source + 3 * gate_step, rows, live_rows, weight + 3 * weight_step,
            lists + 3 * list_step, n_o, slot, out, width, outs, out_step, in_step, BLOCK, DEPTH,
        )  # fmt: skip
    return z_i, z_f, z_g, z_o
