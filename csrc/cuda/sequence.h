// SPDX-License-Identifier: Apache-2.0
// Which rows a step of the scan works on, and where the state is cleared between two steps: on the
// device, and where the host goes through the steps. There seq.reset is never read.
#pragma once

#include "activation.h"
#include "problem.h"

namespace ltlstm::cuda {

// Batch row n < active is row first + n.
struct StepRows {
  int64_t first, active;
};

LTLSTM_INLINE StepRows rows_at(const Sequence& seq, int64_t t) {
  if (seq.batch_sizes == nullptr) return {t * seq.N, seq.N};
  return {seq.offsets[t], seq.batch_sizes[t]};
}

LTLSTM_INLINE int64_t time_of(const Sequence& seq, bool reverse, int64_t scanned) {
  return reverse ? seq.T - 1 - scanned : scanned;
}

// Whether the state of batch row n is cleared before it enters a step. A reset at t stands between
// t - 1 and t, whichever way one goes.
LTLSTM_INLINE bool cleared_before(const Sequence& seq, bool reverse, int64_t scanned, int64_t n) {
  if (seq.reset == nullptr || scanned >= seq.T) return false;
  const int64_t boundary = time_of(seq, reverse, scanned) + reverse;
  if (boundary >= seq.T) return false;
  const StepRows rows = rows_at(seq, boundary);
  return n < rows.active && seq.reset[rows.first + n];
}

}  // namespace ltlstm::cuda
