// SPDX-License-Identifier: Apache-2.0
// Runs CUDA kernel sources on a CPU, as plain C++17: what csrc/cuda includes in place of PTX.
//
// Every block and every CUDA thread of a launch lives at once: a thread is a fiber, all fibers
// share one OS thread, and they change over only inside the functions of these headers, in an order
// that a seed decides. So a run repeats exactly, waiting for other blocks works, and what is
// missing between two accesses shows as wrong numbers under some seed, or under ThreadSanitizer as
// a race. Breaking a rule that can be stated ends the process with a line "emulator: ..." and exit
// code 70, a deadlock with code 71 and a list of who waits for what.
//
// What it does not see: a wrong instruction behind a right name (tests/ptx does), rounding and
// order of sums inside an mma, caches that are not coherent (a plain load that the L1 answers),
// generic stores to the destination of a later bulk copy with no proxy fence between, lanes that
// reach an .aligned instruction at two places, speed. An asynchronous store carries, to
// ThreadSanitizer, all that its thread did before. Two streams never run at the same moment, only
// in any order.
//
// Environment: EMULATOR_SEED  0 (default): the oldest thread first; n: a random order made from n
//              EMULATOR_DROP_WAIT  k: streams do not wait at wait k since the device was last idle
//              EMULATOR_TIMEOUT  seconds of processor time that a launch may take (default 120)
//              EMULATOR_CLOCK_STEP_NS  how far a look at the global timer takes it (default 100)
#pragma once

#include "cluster.h"
#include "half.h"
#include "host.h"
#include "language.h"
#include "matrix.h"
#include "memory.h"
#include "warp.h"
