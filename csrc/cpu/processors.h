// SPDX-License-Identifier: Apache-2.0
// How many threads are worth starting: no more than there are processors to run them.
#pragma once

namespace ltlstm::cpu {

// As long as it lives, the parallel regions that this thread opens, those inside libraries too,
// have no more threads than it has processors. More would wait for each other at every region's
// end, for as long as the system lets each of them run.
class WithinProcessors {
 public:
  explicit WithinProcessors(int threads);  // how many the regions have now
  ~WithinProcessors();
  WithinProcessors(const WithinProcessors&) = delete;

 private:
  int before_ = 0, mkl_before_ = 0;  // 0: nothing was changed; to MKL, no number of its own
};

}  // namespace ltlstm::cpu
