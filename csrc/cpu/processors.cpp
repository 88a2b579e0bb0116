// SPDX-License-Identifier: Apache-2.0
// The number of threads is OpenMP's, and MKL's where it has one of its own. Both runtimes are those
// that torch is linked with, found by name when this library is loaded, or absent.
#include "cpu/processors.h"

extern "C" {
#pragma weak omp_get_num_procs
#pragma weak omp_set_num_threads
#pragma weak MKL_Set_Num_Threads_Local
int omp_get_num_procs();
void omp_set_num_threads(int);
int MKL_Set_Num_Threads_Local(int);  // returns the number before
}

namespace ltlstm::cpu {

WithinProcessors::WithinProcessors(int threads) {
  if (threads == 1 || !omp_get_num_procs || !omp_set_num_threads) return;
  // Not this thread's affinity: where OpenMP has bound its threads, that is a single processor.
  const int processors = omp_get_num_procs();
  if (threads <= processors) return;
  before_ = threads;
  omp_set_num_threads(processors);
  if (MKL_Set_Num_Threads_Local) mkl_before_ = MKL_Set_Num_Threads_Local(processors);
}

WithinProcessors::~WithinProcessors() {
  if (before_ == 0) return;
  omp_set_num_threads(before_);
  if (MKL_Set_Num_Threads_Local) MKL_Set_Num_Threads_Local(mkl_before_);
}

}  // namespace ltlstm::cpu
