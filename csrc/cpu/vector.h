// SPDX-License-Identifier: Apache-2.0
// Vectors of an instruction set, and the passes along a row that need nothing else.
#pragma once

#include <cstdint>

#include "activation.h"

namespace ltlstm::cpu {

// Not the standard library's: an out-of-line copy of those could be shared between instruction sets
// by the linker.
LTLSTM_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <class scalar>
LTLSTM_INLINE void copy_row(int64_t width, const scalar* from, scalar* to) {
  memcpy(to, from, width * sizeof(scalar));
}

template <class scalar>
LTLSTM_INLINE void zero_row(int64_t width, scalar* to) {
  for (int64_t j = 0; j < width; ++j) to[j] = 0;
}

template <class scalar>
LTLSTM_INLINE void add_row(int64_t width, const scalar* from, scalar* to) {
#pragma GCC ivdep
  for (int64_t j = 0; j < width; ++j) to[j] += from[j];
}

// An instruction set, as far as these loops are concerned: the width of a vector and how many stay
// in registers.
template <class Isa, class scalar>
struct Tile {
  typedef scalar Vector
      __attribute__((vector_size(Isa::kVectorBytes), aligned(sizeof(scalar)), may_alias));
  static constexpr int kLanes = Isa::kVectorBytes / sizeof(scalar);
  static constexpr int kVectors = 4;
  static constexpr int kBlock = kVectors * kLanes;
};

// What the pointwise cell computes at once: a vector of floats, or one double, whose functions are
// the C library's.
template <class Isa, class scalar>
struct Units {
  using Value = scalar;
  static constexpr int64_t kCount = 1;
};
template <class Isa>
struct Units<Isa, float> {
  typedef float Value __attribute__((vector_size(Isa::kVectorBytes)));
  static constexpr int64_t kCount = Isa::kVectorBytes / sizeof(float);
};

// kAll: every lane; else the first `count`, the others zero.
template <bool kAll, class Value, class scalar>
LTLSTM_INLINE Value load(const scalar* from, int64_t count) {
  Value value;
  if constexpr (kAll) {
    memcpy(&value, from, sizeof(Value));
  } else {
    scalar lanes[sizeof(Value) / sizeof(scalar)] = {};
    for (int64_t j = 0; j < count; ++j) lanes[j] = from[j];
    memcpy(&value, lanes, sizeof(Value));
  }
  return value;
}

template <bool kAll, class Value, class scalar>
LTLSTM_INLINE void store(const Value& value, scalar* to, int64_t count) {
  if constexpr (kAll) {
    memcpy(to, &value, sizeof(Value));
  } else {
    scalar lanes[sizeof(Value) / sizeof(scalar)];
    memcpy(lanes, &value, sizeof(Value));
    for (int64_t j = 0; j < count; ++j) to[j] = lanes[j];
  }
}

}  // namespace ltlstm::cpu
