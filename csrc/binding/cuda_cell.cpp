// SPDX-License-Identifier: Apache-2.0
// The bare cell on a GPU.
#include "binding/calls.h"
#include "binding/cuda_cells.h"

namespace ltlstm::binding {
namespace {

// The cell's forward pass with what its backward reads.
template <class scalar>
struct CellPass {
  CellPass(const Lane& lane, const Tensor& preact, const Tensor& c, const OptionalTensor& peephole,
           const Tensor& h)
      : c_prev(lane.as_float(c)),
        gates(lane.empty(preact, preact.sizes())),
        c_new(lane.empty_float(c, c.sizes())),
        peephole(lane.as_float(peephole)) {
    const int64_t R = c.size(0), H = c.size(1);
    check(cuda::cell_rows_forward(
        cuda::CellRowsForward<scalar>{R, H, data<scalar>(preact), 4 * H, data<float>(c_prev),
                                      data<float>(this->peephole), mutable_data<scalar>(gates),
                                      mutable_data<float>(c_new), mutable_data<scalar>(h)},
        lane.stream));
  }
  Tensor c_prev, gates, c_new;
  OptionalTensor peephole;
};

}  // namespace

void run(const CellForward& call) {
  with_storage(call.c.scalar_type(), [&](auto* storage) {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    Lanes lanes(call.c, 1, 0);
    const Lane& lane = lanes.of(0);
    const CellPass<scalar> cell(lane, call.preact, call.c, call.peephole, call.h);
    lane.copy(cell.c_new, call.c_new);
  });
}

OptionalTensor run(const CellBackward& call) {
  return with_storage(call.c.scalar_type(), [&](auto* storage) {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const Tensor& c = call.c;
    const int64_t R = c.size(0), H = c.size(1);
    OptionalTensor d_peephole;
    if (call.peephole) d_peephole = empty(c, {3, H});
    Lanes lanes(c, 1, 0);
    const Lane& lane = lanes.of(0);
    const CellPass<scalar> cell(lane, call.preact, c, call.peephole, lane.empty(c, c.sizes()));
    const Tensor dr = call.d_h ? *call.d_h : lane.zero(c, c.sizes());
    const OptionalTensor dc = lane.as_float(call.d_c_new);
    const Tensor dc_prev = lane.empty_float(c, c.sizes());
    check(cuda::cell_rows_backward(
        cuda::CellRowsBackward<scalar>{
            R, H, data<scalar>(cell.gates), data<float>(cell.c_prev), data<float>(cell.c_new),
            data<float>(cell.peephole), data<scalar>(dr), data<float>(dc),
            mutable_data<scalar>(call.d_preact), 4 * H, mutable_data<float>(dc_prev), nullptr},
        lane.stream));
    lane.copy(dc_prev, call.d_c);
    if (d_peephole)
      sum_peephole_gradient<scalar>(lane, call.d_preact, cell.c_prev, cell.c_new, *d_peephole);
    return d_peephole;
  });
}

}  // namespace ltlstm::binding
