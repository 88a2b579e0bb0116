# SPDX-License-Identifier: Apache-2.0
"""Defects to plant in the time-LSTM's kernels and loops: who must catch each, and by saying what.

Grouped by the program of tests/emulator/kernels that is built with them.
"""

from emulator.defects import DEADLOCK, NUMBERS, OVERFLOW, RACE, Defect

EXCHANGE, CLUSTER = "cuda/exchange.cuh", "cuda/exchange_cluster.cuh"
PRODUCT, TILE, SEQUENCE = "cuda/product.cuh", "cuda/tile.cuh", "cuda/sequence.h"
FORWARD, BACKWARD = "cuda/time_lstm_forward.cuh", "cuda/time_lstm_backward.cuh"
STEP, STREAMED = "cuda/time_step.cuh", "cuda/streamed.h"

WRONG = {"plain": (NUMBERS,)}
RULE = {"plain": ("emulator: ",)}
RACES = {"threads": (RACE,)}
OVERRUN = {"memory": OVERFLOW}
HANGS = {"plain": (DEADLOCK, "emulator: the kernel trapped")}

GRID_FORWARD = {
    "a flag before the block's stores": Defect(
        EXCHANGE, "__syncthreads();\n    if (threadIdx.x", "if (threadIdx.x", RACES
    ),
    "a relaxed flag": Defect(EXCHANGE, "store_release(", "store_relaxed(", RACES),
    "a relaxed poll": Defect(
        EXCHANGE,
        "if (load_acquire(flag) >= value) return;\n    const uint64_t start = global_timer_ns();\n"
        "    for (unsigned polls = 1; load_acquire(flag) < value",
        "const uint64_t start = global_timer_ns();\n"
        "    for (unsigned polls = 1; load_relaxed(flag) < value",
        RACES,
    ),
    "one buffer for all steps": Defect(EXCHANGE, "(step & 1) *", "0 *", WRONG, nth=1, of=2),
    "lanes that do not wait for the one that polls": Defect(EXCHANGE, "__syncwarp();", "", RACES),
    "a wait for the step before": Defect(
        EXCHANGE, "block, static_cast<unsigned>(step + 1)", "block, unsigned(step)", RACES
    ),
    "the first block is not waited for": Defect(
        EXCHANGE, "first / channel_.own +", "first / channel_.own + 1 +", RACES
    ),
    "a flag that never rises": Defect(
        EXCHANGE, "rank_, static_cast<unsigned>(step + 1)", "rank_, 1u", HANGS
    ),
    "fragment registers swapped": Defect(
        PRODUCT, "lower.x, upper.y, lower.y}", "upper.y, lower.x, lower.y}", WRONG
    ),
    "the last row of weights is not loaded": Defect(
        PRODUCT, "i < count;", "i < count - row_;", {"plain": (NUMBERS, "emulator: ")}
    ),
    "sums read before they are all there": Defect(PRODUCT, "\n      __syncthreads();", "", RACES),
    "one warp's sums left out": Defect(PRODUCT, "split < at.splits;", "split < 1;", WRONG),
    "a slice of K twice": Defect(
        TILE, "min(split * (", "min((split ? split - 1 : 0) * (", WRONG
    ),
    "a slice of K past its end": Defect(
        TILE,
        "return min((split + 1) * ((blocks + splits - 1) / splits), blocks) * kBlockK;",
        "return (split + 1) * ((blocks + splits - 1) / splits) * kBlockK;",
        {"plain": (NUMBERS,), "memory": OVERFLOW},
    ),
    "inputs of a step past the last": Defect(
        FORWARD, "if (more) load_input(scanned + 1);", "load_input(scanned + 1);", OVERRUN
    ),
    "a finished row goes on": Defect(FORWARD, "if (!is_alive(n)) return;", "", WRONG, of=2),
    "a row stored after its end": Defect(
        FORWARD, "if (!is_alive(n)) return;", "", OVERRUN, nth=1, of=2
    ),
    "a reset that is not seen by others": Defect(
        FORWARD, "clears_[slot] ? scalar(0.f) : out[slot][r]", "out[slot][r]", WRONG
    ),
    "state of a row beyond the batch": Defect(FORWARD, "if (n >= p_.seq.N) return;", "", OVERRUN),
    "the row of the step after": Defect(
        SEQUENCE, "seq.offsets[t], seq", "seq.offsets[t + 1], seq", {"memory": OVERFLOW}
    ),
}  # fmt: skip

GRID_HELD = {
    "weights taken before they have come in": Defect(
        PRODUCT, "__syncthreads();\n        held_", "held_", RACES
    ),
    "the next weights come in while these are taken": Defect(
        PRODUCT, "8 * at.q);\n        __syncthreads();", "8 * at.q);", RACES
    ),
    "weights of another slice": Defect(
        PRODUCT, "lane_row(at) + at.split * kept_", "lane_row(at)", WRONG
    ),
    "each block of weights is the first": Defect(
        PRODUCT, "at.splits, block * kBlockK, kBlockK", "at.splits, 0, kBlockK", WRONG
    ),
}  # fmt: skip

CLUSTER_FORWARD = {
    "no cluster barrier before the first push": Defect(
        CLUSTER, "cluster_arrive();\n    cluster_wait();", "__syncthreads();", RULE
    ),
    "the mbarriers' initialisation is not fenced": Defect(
        CLUSTER, "fence_mbarrier_init();", "", RULE
    ),
    "too few bytes announced": Defect(
        CLUSTER, "unsigned>(columns_ *", "unsigned>(-16 + columns_ *", RULE
    ),
    "too many bytes announced": Defect(
        CLUSTER, "unsigned>(columns_ *", "unsigned>(16 + columns_ *", HANGS
    ),
    "the wrong parity": Defect(CLUSTER, "step >> 1 & 1", "step & 1", RULE),
    "the next use is not announced": Defect(
        CLUSTER, "if (threadIdx.x == 0) expect(step + 2);", "", RULE
    ),
    "announced by two threads": Defect(
        CLUSTER, "if (threadIdx.x == 0) expect", "if (threadIdx.x < 2) expect", RULE
    ),
    "one buffer in the cluster": Defect(CLUSTER, "(step & 1) *", "0 *", WRONG),
    "pushed into another block's slice": Defect(
        CLUSTER, "row_ + rank_ * channel_.own", "row_ + peer * channel_.own", WRONG
    ),
    "counted by the sender's mbarrier": Defect(
        CLUSTER, "&full_[step & 1], rank)", "&full_[step & 1], rank_)", RULE
    ),
    "pushed before other lanes have put": Defect(
        CLUSTER, "    __syncwarp();\n#pragma", "#pragma", RACES
    ),
    "one block gets nothing": Defect(
        CLUSTER, "static_cast<unsigned>(peer);", "unsigned(peer ? peer : 1);", RULE
    ),
    "pushed after the last step": Defect(
        FORWARD, "if (more) publish_h(", "publish_h(", RULE
    ),
    "no wait for what enters": Defect(
        CLUSTER,
        "mbarrier_wait(&full_[step & 1], static_cast<unsigned>(step >> 1 & 1), patience_ns_);",
        "",
        {"threads": (RACE, "emulator: "), "plain": (NUMBERS, "emulator: ")},
    ),
}  # fmt: skip

GRID_BACKWARD = {
    "the gradient crosses a reset": Defect(
        BACKWARD, "cleared[slot] ? 0.f : values", "values", WRONG
    ),
    "a row that is not alive loses its gradient": Defect(
        BACKWARD, "if (n < rows.active && has_output(r)) dh_", "if (has_output(r)) dh_", WRONG
    ),
    "c of the step itself for the one before": Defect(
        BACKWARD, "d_.cells[(before.first + n) * H", "d_.cells[(rows_.first + n) * H", WRONG
    ),
    "gates of the next unit": Defect(
        BACKWARD, "gates[0], gates[H],", "gates[0], gates[H + 1],", WRONG
    ),
    "gradients read before they are published": Defect(
        EXCHANGE, "wait_for(flags_ + block", "if (step == 0) wait_for(flags_ + block", RACES
    ),
}  # fmt: skip

STREAMED_LOOP = {
    "h enters the step after a reset": Defect(
        STEP, "h_n + state, clears ? Units<kCount>{} : s.r", "h_n + state, s.r", WRONG
    ),
    "a row beyond those alive": Defect(STEP, "return at.n < rows.active;", "return true;", OVERRUN),
    "16 bytes of a row that does not divide so": Defect(
        STEP, "p.loop.H % kMany == 0 && p.loop.hidden_stride", "p.loop.hidden_stride",
        {"memory": ("runtime error: ",)},
    ),
    "c of the step for the one before": Defect(
        STEP, "d.cells + (before.first + at.n)", "d.cells + at.row", WRONG
    ),
    "the step's gradient crosses a reset": Defect(
        STEP, "cleared ? nullptr : p.dh", "p.dh", WRONG
    ),
    "a batch row too many": Defect(
        STEP, "find_place<1>(p.rows, p", "find_place<1>(p.rows + 1, p", OVERRUN
    ),
    "a product without its last row": Defect(
        STREAMED, "return {data, rows.active,", "return {data, rows.active - 1,", WRONG
    ),
    "projected h enters the step after a reset": Defect(
        STREAMED, "step.scanned + 1, rows.active, P, h,", "host_.T, rows.active, P, h,", WRONG
    ),
    "dh of the first step crosses a reset": Defect(
        STREAMED, "sequence(p, k), 0, N, P, step.dh[k]", "sequence(p, k), T, N, P, step.dh[k]",
        WRONG,
    ),
    "two directions in one place": Defect(STREAMED, "scratch + k * N * P", "scratch", WRONG),
}  # fmt: skip

PROGRAMS = {
    "one_grid_forward": GRID_FORWARD,
    "one_grid_held": GRID_HELD,
    "one_cluster_forward": CLUSTER_FORWARD,
    "one_grid_backward": GRID_BACKWARD,
    "one_streamed": STREAMED_LOOP,
}
