// SPDX-License-Identifier: Apache-2.0
// The checks, and the flat lists of weights taken apart.
#include "binding/arguments.h"

#include <algorithm>

namespace ltlstm::binding {
namespace {

// Takes the tensors of a flat list one by one, checking each against the shape it must have.
class Reader {
 public:
  Reader(const StackArguments& stack, const char* list, const std::vector<Tensor>& tensors,
         int64_t expected)
      : stack_(stack), list_(list), tensors_(tensors) {
    const int64_t size = static_cast<int64_t>(tensors.size());
    if (size != expected)
      refuse(stack.op, list, "hold " + std::to_string(expected) + " tensors for these flags", size);
  }

  Tensor next(Shape sizes) {
    const Tensor& t = tensors_[index_];
    if (!fits(t, stack_.type, sizes))
      refuse_tensor(stack_.op, std::string(list_) + "[" + std::to_string(index_) + "]", t,
                    stack_.type, sizes);
    ++index_;
    return t;
  }

  OptionalTensor next_if(bool present, Shape sizes) {
    return present ? OptionalTensor(next(sizes)) : OptionalTensor();
  }

 private:
  const StackArguments& stack_;
  const char* list_;
  const std::vector<Tensor>& tensors_;
  int64_t index_ = 0;
};

// H cells, P outputs, one input of width D.
CellWeights next_cell(Reader& reader, Flags flags, int64_t D, int64_t H, int64_t P,
                      bool recurrent) {
  CellWeights w;
  w.w_ih = reader.next({4 * H, D});
  w.w_hh = reader.next_if(recurrent, {4 * H, P});
  w.b_ih = reader.next_if(flags.bias, {4 * H});
  w.b_hh = reader.next_if(flags.bias, {4 * H});
  w.w_hr = reader.next_if(flags.projected, {P, H});
  w.peephole = reader.next_if(flags.peephole, {3, H});
  return w;
}

}  // namespace

StackArguments::StackArguments(const char* op, const Tensor& input, const Tensor& h0,
                               const Tensor& c0, const std::vector<Tensor>& flat_weights,
                               const OptionalTensor& all_masks, const OptionalTensor& batch_sizes,
                               const OptionalTensor& reset, Flags flags,
                               const std::vector<ScalarType>& types)
    : op(op),
      flags(flags),
      type(input.scalar_type()),
      dirs(flags.bidirectional ? 2 : 1),
      reset_(reset) {
  if (std::find(types.begin(), types.end(), type) == types.end()) {
    std::string names = name_of(types[0]);
    for (size_t i = 1; i < types.size(); ++i)
      names += std::string(i + 1 < types.size() ? ", " : " or ") + name_of(types[i]);
    refuse(op, "input", "be " + names, name_of(type));
  }
  const bool packed = batch_sizes.has_value();
  const Shape shape = input.sizes();
  require(shape.size() == (packed ? 2 : 3), op, "input",
          packed ? "have 2 dimensions (rows, features) beside batch_sizes"
                 : "have 3 dimensions (T, N, features)",
          shape.size());
  if (h0.dim() != 3 || c0.dim() != 3)
    refuse(op, "h0 and c0", "have 3 dimensions",
           std::to_string(h0.dim()) + " and " + std::to_string(c0.dim()));
  rows = Sizes(shape.begin(), shape.end() - 1);
  D = shape.back();
  N = packed ? h0.size(1) : rows[1];
  P = h0.size(2);
  H = c0.size(2);
  if (H <= 0 || P <= 0)
    refuse(op, "hidden size", "be positive", std::to_string(H) + " and " + std::to_string(P));
  if (!flags.projected && P != H)
    refuse(op, "h0", "have the width of c0 without a projection",
           text(h0.sizes()) + " and " + text(c0.sizes()));

  const int64_t per_cell = 2 + 2 * flags.bias + flags.projected + flags.peephole;
  const int64_t count = static_cast<int64_t>(flat_weights.size());
  if (count == 0 || count % (per_cell * dirs) != 0)
    refuse(op, "weights",
           "hold a positive multiple of " + std::to_string(per_cell * dirs) +
               " tensors for these flags",
           count);
  L = count / (per_cell * dirs);

  if (packed) {
    T = batch_sizes->numel();
    require(batch_sizes->is_cpu() && batch_sizes->scalar_type() == ScalarType::Long &&
                batch_sizes->is_contiguous() && batch_sizes->dim() == 1,
            op, "batch_sizes", "be a contiguous int64 CPU tensor of one dimension",
            name_of(batch_sizes->scalar_type()));
    const int64_t* sizes = data<int64_t>(*batch_sizes);
    batch_sizes_.assign(sizes, sizes + T);
  } else {
    T = rows[0];
    batch_sizes_.assign(T, N);
  }
  offsets_.reserve(T + 1);
  offsets_.push_back(0);
  for (int64_t t = 0; t < T; ++t) {
    const int64_t size = batch_sizes_[t], most = t == 0 ? N : batch_sizes_[t - 1];
    if (size < 0 || size > most)
      refuse(op, "batch_sizes", "not increase, and lie within the batch",
             std::to_string(size) + " after " + std::to_string(most));
    offsets_.push_back(offsets_.back() + size);
  }
  R = offsets_.back();
  if (packed && R != rows[0])
    refuse(op, "batch_sizes", "sum to the rows of input, " + std::to_string(rows[0]), R);

  require_shape("input", input, per_row(D));
  require_shape("h0", h0, {L * dirs, N, P});
  require_shape("c0", c0, {L * dirs, N, H});
  if (reset) require_tensor(op, "reset", *reset, ScalarType::Bool, rows);
  Reader reader(*this, "weights", flat_weights, L * dirs * per_cell);
  weights.reserve(L * dirs);
  for (int64_t i = 0; i < L * dirs; ++i)
    weights.push_back(next_cell(reader, flags, i < dirs ? D : width(), H, P, /*recurrent=*/true));
  if (!all_masks) return;
  require(all_masks->dim() > 0, op, "masks", "have a dimension of layers", "a scalar");
  require_shape("masks", all_masks, per_layer(all_masks->size(0), width()));
  for (int64_t l = 0; l < all_masks->size(0); ++l)
    masks.push_back(torch::stable::view(torch::stable::select(*all_masks, 0, l), {R, width()}));
}

std::vector<CellWeights> StackArguments::layer_lane_weights(
    const std::vector<Tensor>& traj_weights) const {
  const int64_t per_layer = 2 + 2 * flags.bias + flags.projected + flags.peephole;
  Reader reader(*this, "traj_weights", traj_weights, L * per_layer - 1);
  std::vector<CellWeights> lane;
  for (int64_t l = 0; l < L; ++l)
    lane.push_back(next_cell(reader, flags, width(), dirs * H, width(), l > 0));
  return lane;
}

Sequence StackArguments::sequence(bool reverse) const {
  return {T, N, batch_sizes_.data(), offsets_.data(), data<bool>(reset_), reverse};
}

}  // namespace ltlstm::binding
