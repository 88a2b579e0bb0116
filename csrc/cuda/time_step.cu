// SPDX-License-Identifier: Apache-2.0
// The kernels of one step, for each storage type.
#include "cuda/time_step.cuh"

namespace ltlstm::cuda {

#define LTLSTM_STEP(scalar)                                      \
  template Status time_step(const ForwardStep<scalar>&, void*);  \
  template Status time_step(const BackwardStep<scalar>&, void*); \
  template Status state_rows(const StateRows<scalar, scalar>&, void*);

#define LTLSTM_HALF_STEP(scalar)                                      \
  LTLSTM_STEP(scalar)                                                 \
  template Status state_rows(const StateRows<float, scalar>&, void*); \
  template Status state_rows(const StateRows<scalar, float>&, void*);

LTLSTM_HALF_STEP(__nv_bfloat16)
LTLSTM_HALF_STEP(__half)
LTLSTM_STEP(float)

}  // namespace ltlstm::cuda
