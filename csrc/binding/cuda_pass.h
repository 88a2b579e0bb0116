// SPDX-License-Identifier: Apache-2.0
// What every pass over a stack on a GPU needs beside the arguments: its plan, its lanes, and the
// chunks of time that it goes through, so that what follows a layer may start before its end.
#pragma once

#include "binding/calls.h"
#include "binding/cuda_lanes.h"

namespace ltlstm::binding {

struct Chunk {
  int64_t index;
  int64_t first, last;  // its steps
  int64_t row, rows;    // the rows of those
};

// The rows of a chunk in t (R, width).
inline Tensor rows_of(const Tensor& t, const Chunk& chunk) {
  return matrix(t, chunk.row * t.stride(0), chunk.rows, t.size(1), t.stride(0), t.stride(1));
}

struct Pass {
  // wants_lanes: of a trajectory, whether side by side; the plan's choice where not said.
  Pass(const StackArguments& s, bool training, std::optional<bool> wants_lanes = std::nullopt);

  Sequence sequence(const Chunk& chunk) const;
  // With batch_sizes and offsets where the host can read them.
  Sequence host_sequence(const Chunk& chunk) const;
  // Rows by which a pointer moves on to a chunk: rows of packed input are counted from the first.
  int64_t shift(const Chunk& chunk) const { return steps ? 0 : chunk.row; }

  const StackArguments& s;
  const Plan plan;
  OptionalTensor steps;             // batch_sizes and offsets on the device, of packed input
  const std::vector<Chunk> chunks;  // one or more, in the order of time
  const Chunk whole;
  Lanes lanes;  // last, for it joins before anything goes
};

}  // namespace ltlstm::binding
