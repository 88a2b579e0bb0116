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
from ltlstm_kernels.triton_products import barrier, gate_products, load_gates, outputs, store_gates


@triton.jit
def _hide(
    z_i, z_f, z_g, z_o, hidden, drop, K, valid, slope, LEAKY: tl.constexpr, DROPOUT: tl.constexpr
):
    """Stores phi of the four gates' hidden layers, times their dropout masks."""
    a_i, a_f = phi(z_i, slope, LEAKY), phi(z_f, slope, LEAKY)
    a_g, a_o = phi(z_g, slope, LEAKY), phi(z_o, slope, LEAKY)
    if DROPOUT:
        m_i, m_f, m_g, m_o = load_gates(drop, K, valid)
        a_i, a_f, a_g, a_o = a_i * m_i, a_f * m_f, a_g * m_g, a_o * m_o
    store_gates(hidden, K, valid, a_i, a_f, a_g, a_o)


@triton.jit(do_not_specialize=["N", "J", "S"])
def h_lstm_forward_kernel(
    preact,  # (S, 4K) W_ih x + b of all steps
    h,  # (N, H) in: h0, out: h_n
    c,  # (N, H) float32; in: c0, out: c_n
    weights,  # flat: W_hh (4K, H), J - 1 times (4, K, K), (4, H, K)
    bias,  # flat: J - 1 times (4, K), (4, H)
    columns,  # (J*4*ceil(K/BLOCK) + 4*ceil(H/BLOCK), capacity) int32, the live blocks of each block row
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

        for tile in range(part, tl.cdiv(k_blocks, UNITS), parts):
            z_i, z_f, z_g, z_o = gate_products(
                h, row * H, carried, 0, weights, columns, counts, k_blocks, capacity, tile, H, K, H, 1,
                BLOCK, DEPTH, UNITS, ROWS,
            )  # fmt: skip
            out, valid = outputs(tile, K, live, UNITS, BLOCK)
            at = row[None, :, None] * (4 * K) + out[:, None, :]
            x_i, x_f, x_g, x_o = load_gates(preact + here * (4 * K) + at, K, valid)
            z_i, z_f, z_g, z_o = z_i + x_i, z_f + x_f, z_g + x_g, z_o + x_o
            _hide(z_i, z_f, z_g, z_o, a + at, drop + at, K, valid, slope, LEAKY, DROPOUT)
        arrived += parts
        barrier(arrivals + group, arrived, SHARED)

        if DEEP:
            for j in range(1, J):
                lists = j * 4 * k_blocks
                below = a + (j - 1) * hidden_step
                for tile in range(part, tl.cdiv(k_blocks, UNITS), parts):
                    z_i, z_f, z_g, z_o = gate_products(
                        below, row * (4 * K), live, K, w_later + (j - 1) * w_step,
                        columns + lists * capacity, counts + lists, k_blocks, capacity, tile, K, K, K,
                        1, BLOCK, DEPTH, UNITS, ROWS,
                    )  # fmt: skip
                    out, valid = outputs(tile, K, live, UNITS, BLOCK)
                    if BIAS:
                        b = bias + (j - 1) * 4 * K + out[:, None, :]
                        b_i, b_f, b_g, b_o = load_gates(b, K, (out < K)[:, None, :])
                        z_i, z_f, z_g, z_o = z_i + b_i, z_f + b_f, z_g + b_g, z_o + b_o
                    at = row[None, :, None] * (4 * K) + out[:, None, :]
                    to = below + hidden_step + at
                    m = drop + j * drop_step + at
                    _hide(z_i, z_f, z_g, z_o, to, m, K, valid, slope, LEAKY, DROPOUT)
                arrived += parts
                barrier(arrivals + group, arrived, SHARED)

        for tile in range(part, tl.cdiv(h_blocks, UNITS), parts):
            lists = J * 4 * k_blocks
            z_i, z_f, z_g, z_o = gate_products(
                a + (J - 1) * hidden_step, row * (4 * K), live, K, w_later + (J - 1) * w_step,
                columns + lists * capacity, counts + lists, h_blocks, capacity, tile, K, H, K, 1,
                BLOCK, DEPTH, UNITS, ROWS,
            )  # fmt: skip
            out, valid = outputs(tile, H, live, UNITS, BLOCK)
            if BIAS:
                b = bias + (J - 1) * 4 * K + out[:, None, :]
                b_i, b_f, b_g, b_o = load_gates(b, H, (out < H)[:, None, :])
                z_i, z_f, z_g, z_o = z_i + b_i, z_f + b_f, z_g + b_g, z_o + b_o
            state = row[None, :, None] * H + out[:, None, :]
            c_prev = tl.load(c + state, mask=valid & carried[None, :, None], other=0.0)
            i, f, g, o, c_new, h_new = cell_forward(z_i, z_f, z_g, z_o, c_prev)
            h_new = h_new.to(h.dtype.element_ty)
            tl.store(c + state, c_new, mask=valid)
            tl.store(h + state, h_new, mask=valid)
            to = row[None, :, None] * output_stride + out[:, None, :]
            tl.store(output + here * output_stride + to, h_new, mask=valid)
            if SAVE:
                tl.store(cells + here * H + state, c_new.to(cells.dtype.element_ty), mask=valid)
                to = row[None, :, None] * (4 * H) + out[:, None, :]
                store_gates(gates + here * (4 * H) + to, H, valid, i, f, g, o)
        arrived += parts
        barrier(arrivals + group, arrived, SHARED)
