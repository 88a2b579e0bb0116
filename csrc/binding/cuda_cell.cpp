// SPDX-License-Identifier: Apache-2.0
// The bare cell on a GPU.
#include "binding/cuda_cells.h"
#include "binding/registration.h"

namespace ltlstm::binding {
namespace {

using CellOutputs = std::tuple<Tensor, Tensor>;

// (R, H) of the cell operators, checked.
Sizes cell_sizes(const char* op, const Tensor& preact, const Tensor& c,
                 const OptionalTensor& peephole) {
  const ScalarType type = c.scalar_type();
  const std::vector<ScalarType> types = storage_types();
  require(std::find(types.begin(), types.end(), type) != types.end(), op, "c",
          "be float32, float16 or bfloat16", name_of(type));
  require(c.dim() == 2, op, "c", "have 2 dimensions (R, H)", c.dim());
  const int64_t R = c.size(0), H = c.size(1);
  require_tensor(op, "c", c, type, {R, H});
  require_tensor(op, "preact", preact, type, {R, 4 * H});
  require_tensor(op, "peephole", peephole, type, {3, H});
  return {R, H};
}

// The cell's forward pass with what its backward reads.
template <class scalar>
struct CellPass {
  CellPass(const Lane& lane, const Tensor& preact, const Tensor& c, const OptionalTensor& peephole)
      : c_prev(lane.as_float(c)),
        gates(lane.empty(preact, preact.sizes())),
        c_new(lane.empty_float(c, c.sizes())),
        h(lane.empty(c, c.sizes())),
        peephole(lane.as_float(peephole)) {
    const int64_t R = c.size(0), H = c.size(1);
    check(cuda::cell_rows_forward(
        cuda::CellRowsForward<scalar>{R, H, data<scalar>(preact), 4 * H, data<float>(c_prev),
                                      data<float>(this->peephole), mutable_data<scalar>(gates),
                                      mutable_data<float>(c_new), mutable_data<scalar>(h)},
        lane.stream));
  }
  Tensor c_prev, gates, c_new, h;
  OptionalTensor peephole;
};

CellOutputs cell_forward(const Tensor& preact, const Tensor& c, const OptionalTensor& peephole) {
  const Sizes sizes = cell_sizes("cell_forward", preact, c, peephole);
  return with_storage(c.scalar_type(), [&](auto* storage) -> CellOutputs {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const Tensor c_new = empty(c, sizes);
    Lanes lanes(c, 1, 0);
    const CellPass<scalar> cell(lanes.of(0), preact, c, peephole);
    lanes.of(0).copy(cell.c_new, c_new);
    return {cell.h, c_new};
  });
}

using CellGradients = std::tuple<Tensor, Tensor, Tensor>;

CellGradients cell_backward(const OptionalTensor& d_h, const OptionalTensor& d_c_new,
                            const Tensor& preact, const Tensor& c, const OptionalTensor& peephole) {
  const Sizes sizes = cell_sizes("cell_backward", preact, c, peephole);
  require_tensor("cell_backward", "d_h", d_h, c.scalar_type(), sizes);
  require_tensor("cell_backward", "d_c_new", d_c_new, c.scalar_type(), sizes);
  return with_storage(c.scalar_type(), [&](auto* storage) -> CellGradients {
    using scalar = std::remove_pointer_t<decltype(storage)>;
    const int64_t R = sizes[0], H = sizes[1];
    const Tensor d_preact = empty(preact, preact.sizes()), d_c = empty(c, sizes);
    const Tensor d_peephole = peephole ? empty(*peephole, {3, H}) : empty(c, {0});
    Lanes lanes(c, 1, 0);
    const Lane& lane = lanes.of(0);
    const CellPass<scalar> cell(lane, preact, c, peephole);
    const Tensor dr = d_h ? *d_h : lane.zero(c, sizes);
    const OptionalTensor dc = lane.as_float(d_c_new);
    const Tensor dc_prev = lane.empty_float(c, sizes);
    check(cuda::cell_rows_backward(
        cuda::CellRowsBackward<scalar>{
            R, H, data<scalar>(cell.gates), data<float>(cell.c_prev), data<float>(cell.c_new),
            data<float>(cell.peephole), data<scalar>(dr), data<float>(dc),
            mutable_data<scalar>(d_preact), 4 * H, mutable_data<float>(dc_prev), nullptr},
        lane.stream));
    lane.copy(dc_prev, d_c);
    if (peephole)
      sum_peephole_gradient<scalar>(lane, d_preact, cell.c_prev, cell.c_new, d_peephole);
    return {d_preact, d_c, d_peephole};
  });
}

}  // namespace
}  // namespace ltlstm::binding

LTLSTM_IMPLEMENT(LTLSTM_NAMESPACE, LTLSTM_CUDA_KEY, m) {
  m.impl("cell_forward", TORCH_BOX(&ltlstm::binding::cell_forward));
  m.impl("cell_backward", TORCH_BOX(&ltlstm::binding::cell_backward));
}
