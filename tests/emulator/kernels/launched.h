// SPDX-License-Identifier: Apache-2.0
// main of a program whose case is one launch: IN holds the arrays, OUT is given every one back.
#pragma once

#include "cuda/launch.cuh"
#include "cuda/time_lstm.h"
#include "records.h"

namespace ltlstm::cuda::cases {

// launch(records, sizes) returns a Status; the int64 array "sizes" is the struct Sizes.
template <class Sizes, class Launch>
int main_of_launch(int count, char** arguments, const Launch& launch) {
  if (count != 3) give_up("usage: program IN OUT");
  Records records;
  records.read(arguments[1]);
  const Status status = launch(records, *records.get<Sizes>("sizes"));
  if (status != Status::kOk) give_up("the launch returned " + std::to_string(int(status)));
  if (cudaDeviceSynchronize() != cudaSuccess) give_up("the kernel failed");
  records.write(arguments[2]);
  return 0;
}

}  // namespace ltlstm::cuda::cases
