# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's forward time loop in Triton: one layer, one direction, dense or block-sparse.

A program, or a group of programs that share them (SHARED), has ROWS batch rows and runs all steps.
A step is J + 1 hops with a barrier after each: z = x part + W h, J - 1 times z = W phi(z) + b, and
the gates with the cell. h and c of a row are updated in place, so that a packed row that has ended,
or that the reverse direction has not begun, keeps its own.

The x part of the first hop is a product over all time steps, made before; sizes and strides are
arguments, so no sequence length or batch size compiles anything anew.
"""

import triton
import triton.language as tl

from ltlstm_kernels.triton_cell import cell_forward, phi
from ltlstm_kernels.triton_products import (
    barrier,
    gate_products,
    load_gates,
    outputs,
    product,
    store_gates,
)


@triton.jit
def _hide(
    z, hidden, drop, at, valid, slope, LEAKY: tl.constexpr, DROPOUT: tl.constexpr
):  # fmt: skip
    """Stores phi(z), times its dropout mask."""
    a = phi(z, slope, LEAKY)
    if DROPOUT:
        a *= tl.load(drop + at, mask=valid, other=0.0).to(tl.float32)
    tl.store(hidden + at, a.to(hidden.dtype.element_ty), mask=valid)


@triton.jit(do_not_specialize=["N", "J", "S"])
def h_lstm_forward_kernel(
    preact,  # (S, 4K) W_ih x + b of all steps
    h,  # (N, H) in: h0, out: h_n
    c,  # (N, H) float32; in: c0, out: c_n
    weights,  # flat: W_hh (4K, H), J - 1 times (4, K, K), (4, H, K)
    bias,  # flat: J - 1 times (4, K), (4, H)
    columns,  # (J*4*ceil(K/BLOCK) + 4*ceil(H/BLOCK), capacity) int32: live blocks by block row
    counts,  # how many they are, int32
    gate_masks,  # (J, S, 4K) dropout masks, scaled
    keep,  # (S,) uint8, 0 where the state before that step is zero
    offsets,  # (T+1,) int64, the first row of each step
    steps,  # (row blocks,) int32, steps in which a block of rows takes part
    arrivals,  # (row blocks,) int32 zeros
    hidden,  # (J, S, 4K) out: the gates' hidden layers after dropout; (J, N, 4K) without SAVE
    output,  # (S, H) out, rows output_stride apart
    cells,  # (S, H) out, with SAVE
    gates,  # (S, 4H) out, the gates after activation, with SAVE
    N, H, K, J, S, capacity, output_stride, slope,
    REVERSE: tl.constexpr, LEAKY: tl.constexpr, BIAS: tl.constexpr, DROPOUT: tl.constexpr,
    RESET: tl.constexpr, SAVE: tl.constexpr, DEEP: tl.constexpr, SHARED: tl.constexpr,
    BLOCK: tl.constexpr, DEPTH: tl.constexpr, UNITS: tl.constexpr, ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0)
    part = tl.program_id(1)
    parts = tl.num_programs(1)
    row = tl.arange(0, ROWS)
    lead = group.to(tl.int64) * ROWS
    h += lead * H
    c += lead * H
    k_blocks = tl.cdiv(K, BLOCK)
    h_blocks = tl.cdiv(H, BLOCK)
    k_tiles = tl.cdiv(4 * k_blocks, UNITS)
    h_tiles = tl.cdiv(4 * h_blocks, UNITS)
    w_later = weights + 4 * tl.cast(K, tl.int64) * H
    w_step = 4 * tl.cast(K, tl.int64) * K
    hidden_step = tl.cast(S if SAVE else N, tl.int64) * (4 * K)
    drop_step = tl.cast(S, tl.int64) * (4 * K)
    arrived = 0
    length = tl.load(steps + group)
    for s in range(length):
        t = length - 1 - s if REVERSE else s
        here = tl.load(offsets + t) + lead
        live = row < tl.load(offsets + t + 1) - here
        carried = live
        if RESET:
            carried = live & (tl.load(keep + here + row, mask=live, other=0) != 0)
        a = hidden + (here if SAVE else lead) * (4 * K)
        drop = gate_masks + here * (4 * K)

        for tile in range(part, k_tiles, parts):
            unit = tile * UNITS + tl.arange(0, UNITS)
            gate, block = unit // k_blocks, unit % k_blocks
            z = product(
                h, row * H, carried, 0, weights, columns, counts, capacity, gate, block, k_blocks,
                H, K, H, 1, BLOCK, DEPTH, UNITS, ROWS, STAGES,
            )  # fmt: skip
            out, valid = outputs(block, K, live, BLOCK)
            of_gate = gate[:, None, None]
            valid &= of_gate < 4
            at = row[None, :, None] * (4 * K) + of_gate * K + out
            z += tl.load(preact + here * (4 * K) + at, mask=valid, other=0.0).to(tl.float32)
            _hide(z, a, drop, at, valid, slope, LEAKY, DROPOUT)
        arrived += parts
        barrier(arrivals + group, arrived, SHARED)

        if DEEP:
            for j in range(1, J):
                below = a + (j - 1) * hidden_step
                for tile in range(part, k_tiles, parts):
                    unit = tile * UNITS + tl.arange(0, UNITS)
                    gate, block = unit // k_blocks, unit % k_blocks
                    lists = j * 4 * k_blocks
                    z = product(
                        below, row * (4 * K), live, K, w_later + (j - 1) * w_step,
                        columns + lists * capacity, counts + lists, capacity, gate, block, k_blocks,
                        K, K, K, 1, BLOCK, DEPTH, UNITS, ROWS, STAGES,
                    )  # fmt: skip
                    out, valid = outputs(block, K, live, BLOCK)
                    of_gate = gate[:, None, None]
                    valid &= of_gate < 4
                    if BIAS:
                        b = bias + (j - 1) * 4 * K + of_gate * K + out
                        z += tl.load(b, mask=(of_gate < 4) & (out < K), other=0.0).to(tl.float32)
                    at = row[None, :, None] * (4 * K) + of_gate * K + out
                    to, m = below + hidden_step, drop + j * drop_step
                    _hide(z, to, m, at, valid, slope, LEAKY, DROPOUT)
                arrived += parts
                barrier(arrivals + group, arrived, SHARED)

        for tile in range(part, h_tiles, parts):
            lists = J * 4 * k_blocks
            z_i, z_f, z_g, z_o = gate_products(
                a + (J - 1) * hidden_step, row * (4 * K), live, K, w_later + (J - 1) * w_step,
                columns + lists * capacity, counts + lists, capacity, tile, h_blocks, K, H, K, 1,
                BLOCK, DEPTH, UNITS, ROWS, STAGES,
            )  # fmt: skip
            out, valid = outputs(tile * (UNITS // 4) + tl.arange(0, UNITS // 4), H, live, BLOCK)
            if BIAS:
                b_i, b_f, b_g, b_o = load_gates(bias + (J - 1) * 4 * K + out, H, out < H)
                z_i, z_f, z_g, z_o = z_i + b_i, z_f + b_f, z_g + b_g, z_o + b_o
            state = row[None, :, None] * H + out
            c_prev = tl.load(c + state, mask=valid & carried[None, :, None], other=0.0)
            i, f, g, o, c_new, h_new = cell_forward(z_i, z_f, z_g, z_o, c_prev)
            h_new = h_new.to(h.dtype.element_ty)
            tl.store(c + state, c_new, mask=valid)
            tl.store(h + state, h_new, mask=valid)
            to = row[None, :, None] * output_stride + out
            tl.store(output + here * output_stride + to, h_new, mask=valid)
            if SAVE:
                tl.store(cells + here * H + state, c_new.to(cells.dtype.element_ty), mask=valid)
                to = row[None, :, None] * (4 * H) + out
                store_gates(gates + here * (4 * H) + to, H, valid, i, f, g, o)
        arrived += parts
        barrier(arrivals + group, arrived, SHARED)
