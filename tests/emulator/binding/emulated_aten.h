// SPDX-License-Identifier: Apache-2.0
// What the CUDA binding asks of ATen on a GPU, as the emulator answers.
//
// Products are ours, so that two schedules of one problem can be compared bit for bit on any
// processor: each element is a sum over k in order, in float64 and rounded once. It depends on
// nothing but its own row and column: not on the rows beside it, on addresses, or on a library.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace ltlstm::binding {

AOTITorchError emulated_mm_out(AtenTensorHandle out, AtenTensorHandle a, AtenTensorHandle b);
// out = self + a b, self a matrix or a row.
AOTITorchError emulated_addmm_out(AtenTensorHandle out, AtenTensorHandle self, AtenTensorHandle a,
                                  AtenTensorHandle b, double beta, double alpha);
AOTITorchError emulated_fill__Scalar(AtenTensorHandle self, double value);

}  // namespace ltlstm::binding
