# SPDX-License-Identifier: Apache-2.0
"""What the H-LSTM's time loops are made of: products over live blocks, the barrier between hops.

A weight of a gate layer is cut into blocks of BLOCK x BLOCK. For each of its block rows a list says
which blocks are live (`triton_blocks.py`); the others are never read. A program has a few batch
rows and, at a time, UNITS block rows, whose products are independent, so that each warp has its
own; DEPTH live blocks of a row are one step of its product, and STAGES steps are under way.

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
    """No program of a group goes on before `target` arrivals were counted; alone, no warp before
    the others. What was stored before it can be loaded after it.

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
def outputs(block, outs, live, BLOCK: tl.constexpr):
    """Which outputs the blocks (B,) have (B, 1, BLOCK), and where in live rows (B, ROWS, BLOCK)
    they exist."""
    out = (block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :])[:, None, :]
    return out, live[None, :, None] & (out < outs)


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
def product(
    source, rows, live_rows, gate_step, weight, columns, counts, capacity, gate, block, blocks,
    width, outs, out_step, in_step,
    BLOCK: tl.constexpr, DEPTH: tl.constexpr, UNITS: tl.constexpr, ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """(UNITS, ROWS, BLOCK) in float32: what the block rows `block` (UNITS,) of the gates `gate`
    make of the source.

    source: the inputs of gate i, a row's at rows (ROWS,); the others' lie `gate_step` further each.
    weight: four matrices of outs outputs and width inputs, one behind the other; the element of
    output o and input k lies at o * out_step + k * in_step. columns (4 * blocks, capacity), counts
    (4 * blocks,): the lists of this layer, gate after gate.
    """
    of_list = gate * blocks + block
    count = tl.load(counts + of_list, mask=(block < blocks) & (gate < 4), other=0)
    lists = (columns + of_list * capacity)[:, None]
    sources = (source + gate * gate_step)[:, None, None] + rows[None, :, None]
    out = (block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :])[:, None, :]
    w_step = tl.cast(outs, tl.int64) * width
    weights = (weight + gate * w_step)[:, None, None] + out * out_step
    k = tl.arange(0, BLOCK * DEPTH)
    acc = tl.zeros((UNITS, ROWS, BLOCK), tl.float32)
    for slot in tl.range(0, tl.max(count, axis=0), DEPTH, num_stages=STAGES):
        slots = (slot + k // BLOCK)[None, :]
        listed = slots < count[:, None]
        column = tl.load(lists + slots, mask=listed, other=0)
        inputs = column * BLOCK + (k % BLOCK)[None, :]
        # A loaded index has no alignment that the compiler knows of; loads would be of one element.
        inputs = tl.max_contiguous(tl.multiple_of(inputs, (1, BLOCK)), (1, BLOCK))
        listed = listed & (inputs < width)
        x = tl.load(
            sources + inputs[:, None, :],
            mask=listed[:, None, :] & live_rows[None, :, None], other=0.0,
        )  # fmt: skip
        w = tl.load(
            weights + inputs[:, :, None] * in_step,
            mask=listed[:, :, None] & (out < outs), other=0.0,
        )  # fmt: skip
        # float32 as it is: TF32 would miss the accuracy of plain torch.
        acc = tl.dot(x, w, acc, input_precision="ieee")
    return acc


@triton.jit
def gate_products(
    source, rows, live_rows, gate_step, weight, columns, counts, capacity, tile, blocks, width,
    outs, out_step, in_step,
    BLOCK: tl.constexpr, DEPTH: tl.constexpr, UNITS: tl.constexpr, ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """The four gates' products for the same UNITS / 4 blocks: four (UNITS / 4, ROWS, BLOCK)."""
    unit = tl.arange(0, UNITS)
    z = product(
        source, rows, live_rows, gate_step, weight, columns, counts, capacity, unit % 4,
        tile * (UNITS // 4) + unit // 4, blocks, width, outs, out_step, in_step,
        BLOCK, DEPTH, UNITS, ROWS, STAGES,
    )  # fmt: skip
    z = z.reshape(UNITS // 4, 2, 2, ROWS, BLOCK).permute(0, 3, 4, 1, 2)
    i_and_g, f_and_o = tl.split(z)
    z_i, z_g = tl.split(i_and_g)
    z_f, z_o = tl.split(f_and_o)
    return z_i, z_f, z_g, z_o
