// SPDX-License-Identifier: Apache-2.0
// What the headers of the emulator ask of its runtime. Not for kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "language.h"

namespace emulator {

// Says what rule was broken, by whom and under which seed, and ends the process with code 70.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Lets others run. A poll, other than a plain yield, says that nothing happens until they do.
void yield();
void poll(const char* what = nullptr);
// Something that another thread may be waiting for has happened.
void note_progress();

int lane_id();
bool chance(unsigned one_in);  // never under seed 0

void barrier(int id, int threads, int line);  // threads < 0: all of the block
enum class Vote { kAny, kAll, kCount };
int voting_barrier(Vote vote, bool ballot, int line);

// A meeting of the lanes of `mask`; the last to come calls `finish` for all. Only kSync orders the
// memory accesses of the lanes.
enum class Meeting { kSync, kShuffle, kBallot, kReduce, kMma, kLdmatrix };
struct Lane {
  const void* in;
  void* out;
  int argument;
};
using Finish = void (*)(Lane* lanes, uint32_t mask);
void meet(Meeting meeting, uint32_t mask, Lane lane, Finish finish);

void* shared_array(int offset, int bytes);
void check_aligned(const void* p, size_t alignment, const char* what);
// That the bytes lie in the block's shared memory; a barrier object or a ldmatrix row, say.
void check_shared(const void* p, size_t bytes, size_t alignment, const char* what);

// Stores to other blocks are performed at the latest here.
void perform_remote_stores();

void fence();
bool fenced();                          // since the last barrier of the block
void note_relaxed_load(const void* p);  // a later fence makes it an acquire
void copy_async(void* shared, const void* global, int bytes, int valid);
void commit_copies();
void wait_for_copies(int pending);
uint64_t timer_ns();

}  // namespace emulator
