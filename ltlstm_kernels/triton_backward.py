# SPDX-License-Identifier: Apache-2.0
"""The H-LSTM's backward time loop in Triton: the gradients of all pre-activations.

The same programs, hops and barriers as forward, by the transposed weights. dh and dc of a row are
updated in place: they come in as the gradients of h_n and c_n and go out as those of h0 and c0. The
gradients of the weights, of the biases and of the input are products over all rows, made after from
what this stores; they are dense, whichever blocks are live.
"""

import triton
import triton.language as tl

from ltlstm_kernels.triton_cell import cell_backward, phi_backward
from ltlstm_kernels.triton_products import (
    barrier,
    gate_products,
    load_gates,
    outputs,
    product,
    store_gates,
)


@triton.jit(do_not_specialize=["T", "J", "S"])
def h_lstm_backward_kernel(
    d_output,  # (S, H), rows d_output_stride apart
    d_cells,  # (S, H), with CELLS
    dh,  # (N, H) float32; in: of h_n, out: of h0
    dc,  # (N, H) float32; in: of c_n, out: of c0
    weights,  # as forward has them
    columns,  # the lists of the transposed weights: (J*4*ceil(K/BLOCK) + 4*ceil(H/BLOCK), capacity)
    counts,
    gate_masks,  # (J, S, 4K)
    keep,  # (S,) uint8
    offsets,  # (T+1,) int64
    steps,  # (row blocks,) int32
    arrivals,  # (row blocks,) int32 zeros
    hidden,  # (J, S, 4K)
    cells,  # (S, H)
    c0,  # (N, H) float32
    gates,  # (S, 4H)
    dz,  # (J, S, 4K) out: gradients of the hidden layers' pre-activations
    dz_gates,  # (S, 4H) out: and of the gates'
    T, H, K, J, S, capacity, d_output_stride, slope,
    REVERSE: tl.constexpr, LEAKY: tl.constexpr, DROPOUT: tl.constexpr, RESET: tl.constexpr,
    CELLS: tl.constexpr, SHARED: tl.constexpr,
    BLOCK: tl.constexpr, DEPTH: tl.constexpr, UNITS: tl.constexpr, ROWS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    group = tl.program_id(0)
    part = tl.program_id(1)
    parts = tl.num_programs(1)
    row = tl.arange(0, ROWS)
    lead = group.to(tl.int64) * ROWS
    dh += lead * H
    dc += lead * H
    c0 += lead * H
    k_blocks = tl.cdiv(K, BLOCK)
    h_blocks = tl.cdiv(H, BLOCK)
    k_tiles = tl.cdiv(4 * k_blocks, UNITS)
    h_tiles = tl.cdiv(4 * h_blocks, UNITS)
    w_later = weights + 4 * tl.cast(K, tl.int64) * H
    w_step = 4 * tl.cast(K, tl.int64) * K
    step = tl.cast(S, tl.int64) * (4 * K)  # from hidden layer to hidden layer
    arrived = 0
    length = tl.load(steps + group)
    for s in range(length):
        t = s if REVERSE else length - 1 - s
        here = tl.load(offsets + t) + lead
        end = tl.load(offsets + t + 1)
        live = row < end - here
        carried = live
        if RESET:
            carried = live & (tl.load(keep + here + row, mask=live, other=0) != 0)
        # The step before this one, in the direction of the scan, and which rows it had.
        if REVERSE:
            before = end + lead
            had = row < tl.load(offsets + tl.minimum(t + 2, T)) - before
        else:
            before = tl.load(offsets + tl.maximum(t - 1, 0)) + lead
            had = live & (t > 0)

        for tile in range(part, h_tiles, parts):
            out, valid = outputs(tile * (UNITS // 4) + tl.arange(0, UNITS // 4), H, live, BLOCK)
            state = row[None, :, None] * H + out
            at = row[None, :, None] * d_output_stride + out
            d_h = tl.load(d_output + here * d_output_stride + at, mask=valid, other=0.0)
            d_h = d_h.to(tl.float32) + tl.load(dh + state, mask=valid, other=0.0)
            d_c = tl.load(dc + state, mask=valid, other=0.0)
            if CELLS:
                d_c += tl.load(d_cells + here * H + state, mask=valid, other=0.0).to(tl.float32)
            at = row[None, :, None] * (4 * H) + out
            i, f, g, o = load_gates(gates + here * (4 * H) + at, H, valid)
            c = tl.load(cells + here * H + state, mask=valid, other=0.0).to(tl.float32)
            kept = valid & carried[None, :, None]
            begun = had[None, :, None]
            c_prev = tl.load(cells + before * H + state, mask=kept & begun, other=0.0)
            first = tl.load(c0 + state, mask=kept & (begun == 0), other=0.0)
            c_prev = c_prev.to(tl.float32) + first
            dz_i, dz_f, dz_g, dz_o, d_c = cell_backward(i, f, g, o, c_prev, c, d_h, d_c)
            store_gates(dz_gates + here * (4 * H) + at, H, valid, dz_i, dz_f, dz_g, dz_o)
            tl.store(dc + state, tl.where(kept, d_c, 0.0), mask=valid)
        arrived += parts
        barrier(arrivals + group, arrived, SHARED)

        for back in range(J):
            j = J - 1 - back
            if back == 0:
                source = dz_gates + here * (4 * H)
                width = tl.cast(H, tl.int32)
            else:
                source = dz + (j + 1) * step + here * (4 * K)
                width = tl.cast(K, tl.int32)
            for tile in range(part, k_tiles, parts):
                unit = tile * UNITS + tl.arange(0, UNITS)
                gate, block = unit // k_blocks, unit % k_blocks
                lists = j * 4 * k_blocks
                da = product(
                    source, row * (4 * width), live, width, w_later + j * w_step,
                    columns + lists * capacity, counts + lists, capacity, gate, block, k_blocks,
                    width, K, 1, K, BLOCK, DEPTH, UNITS, ROWS, STAGES,
                )  # fmt: skip
                out, valid = outputs(block, K, live, BLOCK)
                of_gate = gate[:, None, None]
                valid &= of_gate < 4
                at = row[None, :, None] * (4 * K) + of_gate * K + out
                at = (j * step + here * (4 * K)) + at
                if DROPOUT:
                    da *= tl.load(gate_masks + at, mask=valid, other=0.0).to(tl.float32)
                # What was dropped is zero, and so is its gradient, on either side of phi.
                a = tl.load(hidden + at, mask=valid, other=0.0).to(tl.float32)
                d = phi_backward(da, a, slope, LEAKY)
                tl.store(dz + at, d.to(dz.dtype.element_ty), mask=valid)
            arrived += parts
            barrier(arrivals + group, arrived, SHARED)

        for tile in range(part, h_tiles, parts):
            lists = J * 4 * k_blocks
            d_i, d_f, d_g, d_o = gate_products(
                dz + here * (4 * K), row * (4 * K), live, K, weights, columns + lists * capacity,
                counts + lists, capacity, tile, h_blocks, K, H, 1, H,
                BLOCK, DEPTH, UNITS, ROWS, STAGES,
            )  # fmt: skip
            out, valid = outputs(tile * (UNITS // 4) + tl.arange(0, UNITS // 4), H, live, BLOCK)
            d_h = tl.where(carried[None, :, None], (d_i + d_f) + (d_g + d_o), 0.0)
            tl.store(dh + row[None, :, None] * H + out, d_h, mask=valid)
        # The next step's cell reads dh in the program that wrote it: no other waits for it.
        tl.debug_barrier()
