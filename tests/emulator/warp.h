// SPDX-License-Identifier: Apache-2.0
// Barriers of a block and what the lanes of a warp do together.
#pragma once

#include <type_traits>

#include "runtime.h"

#define __syncthreads() emulator::barrier(0, -1, __LINE__)
#define __syncthreads_or(ballot) \
  emulator::voting_barrier(emulator::Vote::kAny, (ballot) != 0, __LINE__)
#define __syncthreads_and(ballot) \
  emulator::voting_barrier(emulator::Vote::kAll, (ballot) != 0, __LINE__)
#define __syncthreads_count(ballot) \
  emulator::voting_barrier(emulator::Vote::kCount, (ballot) != 0, __LINE__)

namespace emulator {

template <class Function>
inline void for_lanes(uint32_t mask, Function function) {
  for (int lane = 0; lane < 32; ++lane) {
    if (mask >> lane & 1) function(lane);
  }
}

template <class T>
inline T shuffle(uint32_t mask, T value, int source) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "shuffle: up to 8 bytes");
  T result = value;
  meet(Meeting::kShuffle, mask, {&value, &result, source}, [](Lane* lanes, uint32_t mask) {
    for_lanes(mask, [&](int lane) {
      const int from = lanes[lane].argument;
      if (!(mask >> from & 1)) {
        fail("a shuffle: lane %d reads lane %d, which is not in the mask %08x", lane, from, mask);
      }
      std::memcpy(lanes[lane].out, lanes[from].in, sizeof(T));
    });
  });
  return result;
}

inline uint32_t ballot(uint32_t mask, bool vote) {
  uint32_t result = 0;
  meet(Meeting::kBallot, mask, {nullptr, &result, vote}, [](Lane* lanes, uint32_t mask) {
    uint32_t votes = 0;
    for_lanes(mask,
              [&](int lane) { votes |= static_cast<uint32_t>(lanes[lane].argument) << lane; });
    for_lanes(mask, [&](int lane) { *static_cast<uint32_t*>(lanes[lane].out) = votes; });
  });
  return result;
}

template <class Operation, class T>
inline T reduce(uint32_t mask, T value) {
  T result = value;
  meet(Meeting::kReduce, mask, {&value, &result, 0}, [](Lane* lanes, uint32_t mask) {
    T total{};
    bool first = true;
    for_lanes(mask, [&](int lane) {
      const T mine = *static_cast<const T*>(lanes[lane].in);
      total = first ? mine : Operation{}(total, mine);
      first = false;
    });
    for_lanes(mask, [&](int lane) { *static_cast<T*>(lanes[lane].out) = total; });
  });
  return result;
}

struct Add {
  template <class T>
  T operator()(T a, T b) const {
    return static_cast<T>(a + b);
  }
};
struct Max {
  template <class T>
  T operator()(T a, T b) const {
    return a < b ? b : a;
  }
};

// The lane that a shuffle reads, or its own where that lies outside its group of `width` lanes.
inline int in_group(int source, int width) {
  const int first = lane_id() & ~(width - 1);
  return source < first || source >= first + width ? lane_id() : source;
}

}  // namespace emulator

inline void __syncwarp(uint32_t mask = 0xffffffff) {
  emulator::meet(emulator::Meeting::kSync, mask, {nullptr, nullptr, 0},
                 [](emulator::Lane*, uint32_t) {});
}
template <class T>
inline T __shfl_sync(uint32_t mask, T value, int source, int width = 32) {
  const int first = emulator::lane_id() & ~(width - 1);
  return emulator::shuffle(mask, value, first | (source & (width - 1)));
}
template <class T>
inline T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32) {
  return emulator::shuffle(mask, value, emulator::in_group(emulator::lane_id() ^ bits, width));
}
template <class T>
inline T __shfl_up_sync(uint32_t mask, T value, unsigned by, int width = 32) {
  const int source = emulator::lane_id() - static_cast<int>(by);
  return emulator::shuffle(mask, value, emulator::in_group(source, width));
}
template <class T>
inline T __shfl_down_sync(uint32_t mask, T value, unsigned by, int width = 32) {
  const int source = emulator::lane_id() + static_cast<int>(by);
  return emulator::shuffle(mask, value, emulator::in_group(source, width));
}
inline uint32_t __ballot_sync(uint32_t mask, int vote) { return emulator::ballot(mask, vote != 0); }
inline int __any_sync(uint32_t mask, int vote) { return emulator::ballot(mask, vote != 0) != 0; }
inline int __all_sync(uint32_t mask, int vote) { return emulator::ballot(mask, vote != 0) == mask; }
template <class T>
inline T __reduce_add_sync(uint32_t mask, T value) {
  return emulator::reduce<emulator::Add>(mask, value);
}
template <class T>
inline T __reduce_max_sync(uint32_t mask, T value) {
  return emulator::reduce<emulator::Max>(mask, value);
}
