// SPDX-License-Identifier: Apache-2.0
// The time-LSTM in float16 (columns of 8) and float32 (columns of 16), grid and block regimes.
#include "time_lstm.h"

namespace ltlstm::cuda::cases {
namespace {

bool run(Records& records, const Sizes& s) {
  if (s.columns == 8)
    return s.regime == 0 ? run_kernels<__half, BlockExchange, 1>(records, s)
                         : run_kernels<__half, GridExchange, 1>(records, s);
  return s.regime == 0 ? run_kernels<float, BlockExchange, 2>(records, s)
                       : run_kernels<float, GridExchange, 2>(records, s);
}

}  // namespace
}  // namespace ltlstm::cuda::cases

int main(int count, char** arguments) {
  return ltlstm::cuda::cases::main_of(count, arguments, ltlstm::cuda::cases::run);
}
