// SPDX-License-Identifier: Apache-2.0
// The checks, and the flat lists of weights taken apart.
#include "binding/arguments.h"

#include <algorithm>

#include "binding/cpu_sparse.h"

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
    if (!fits(t, stack_.input, stack_.type, sizes))
      refuse_tensor(stack_.op, std::string(list_) + "[" + std::to_string(index_) + "]", t,
                    stack_.input, stack_.type, sizes);
    ++index_;
    return t;
  }

  // A weight, or what sparse_compile made of it.
  Tensor next_weight(Shape sizes) {
    const Tensor& t = tensors_[index_];
    if (!stack_.flags.compiled) return next(sizes);
    const Sizes wanted = joined(sizes.size() == 2 ? Sizes{1} : Sizes{}, sizes);
    if (!is_bytes(t) || shape_of(t) != wanted)
      refuse_bytes(stack_.op, std::string(list_) + "[" + std::to_string(index_) + "]", t, sizes);
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

// J hidden layers of width K.
GateWeights next_gates(Reader& reader, bool bias, int64_t D, int64_t H, int64_t K, int64_t J) {
  GateWeights w{reader.next_weight({4 * K, D}),
                reader.next_weight({4 * K, H}),
                reader.next_if(bias, {4 * K}),
                {},
                {}};
  for (int64_t j = 1; j <= J; ++j) {
    const int64_t outputs = j == J ? H : K;
    w.later.push_back(reader.next_weight({4, outputs, K}));
    w.later_b.push_back(reader.next_if(bias, {4, outputs}));
  }
  return w;
}

// Tensors of one cell.
int64_t count_of_cell(const StackArguments& s, int64_t count, int64_t states) {
  if (!s.flags.mlp_gates) return 2 + 2 * s.flags.bias + s.flags.projected + s.flags.peephole;
  const int64_t first = 2 + s.flags.bias, later = 1 + s.flags.bias;
  const int64_t per_cell = states == 0 ? 0 : count / states;
  if (per_cell <= first || (per_cell - first) % later != 0)
    refuse(s.op, "weights", "hold w_ih, w_hh and as many gate layers for each of the states of h0",
           std::to_string(count) + " tensors for " + std::to_string(states));
  return per_cell;
}

}  // namespace

void require_type(const char* op, const char* argument, ScalarType type, Types types) {
  if (std::find(types.begin(), types.end(), type) != types.end()) return;
  std::string names = name_of(types[0]);
  for (size_t i = 1; i < types.size(); ++i)
    names += std::string(i + 1 < types.size() ? ", " : " or ") + name_of(types[i]);
  refuse(op, argument, "be " + names, name_of(type));
}

StackArguments::StackArguments(const char* op, const Tensor& input, const Tensor& h0,
                               const Tensor& c0, const std::vector<Tensor>& flat_weights,
                               const OptionalTensor& all_masks, const OptionalTensor& batch_sizes,
                               const OptionalTensor& reset, Flags flags, Types types)
    : op(op),
      input(input),
      h0(h0),
      c0(c0),
      packing(batch_sizes),
      reset(reset),
      flags(flags),
      type(input.scalar_type()),
      dirs(flags.bidirectional ? 2 : 1) {
  require_type(op, "input", type, types);
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

  const int64_t count = static_cast<int64_t>(flat_weights.size());
  const int64_t per_cell = count_of_cell(*this, count, h0.size(0));
  if (count == 0 || count % (per_cell * dirs) != 0)
    refuse(op, "weights",
           "hold a positive multiple of " + std::to_string(per_cell * dirs) +
               " tensors for these flags",
           count);
  L = count / (per_cell * dirs);

  if (packed) {
    T = batch_sizes->numel();
    if (!batch_sizes->is_cpu() || batch_sizes->scalar_type() != ScalarType::Long ||
        !batch_sizes->is_contiguous() || batch_sizes->dim() != 1)
      refuse(op, "batch_sizes", "be a contiguous int64 CPU tensor of one dimension",
             std::string(name_of(batch_sizes->scalar_type())) + " of shape " +
                 text(batch_sizes->sizes()) + (batch_sizes->is_cpu() ? "" : " elsewhere"));
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
  if (reset) require_tensor(op, "reset", *reset, input, ScalarType::Bool, rows);
  Reader reader(*this, "weights", flat_weights, L * dirs * per_cell);
  if (flags.mlp_gates) {
    const Tensor& w_ih = flat_weights[0];
    if (flags.compiled && !is_bytes(w_ih)) refuse_bytes(op, "weights[0]", w_ih, {});
    const Sizes sizes = flags.compiled ? shape_of(w_ih) : sizes_of(w_ih);
    const size_t rank = flags.compiled ? 3 : 2;
    if (sizes.size() != rank || sizes[rank - 2] == 0 || sizes[rank - 2] % 4 != 0)
      refuse(op, "weights[0]", "have 4K rows, K positive", text(sizes));
    K = sizes[rank - 2] / 4;
    J = (per_cell - 2 - flags.bias) / (1 + flags.bias);
  }
  for (int64_t i = 0; i < L * dirs && flags.mlp_gates; ++i)
    gates.push_back(next_gates(reader, flags.bias, i < dirs ? D : width(), H, K, J));
  if (!flags.mlp_gates) weights.reserve(L * dirs);
  for (int64_t i = 0; i < L * dirs && !flags.mlp_gates; ++i)
    weights.push_back(next_cell(reader, flags, i < dirs ? D : width(), H, P, /*recurrent=*/true));
  if (!all_masks) return;
  require(all_masks->dim() > 0, op, "masks", "have a dimension of layers", "a scalar");
  require_shape("masks", all_masks, per_layer(all_masks->size(0), width()));
  const int64_t dropped = all_masks->size(0);
  require(dropped == 0 || dropped == L - 1 || dropped == hidden_layers(), op, "masks",
          flags.trajectory ? "hold L - 1 or L layers" : "hold L - 1 layers", dropped);
  for (int64_t l = 0; l < dropped; ++l)
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
  return {T, N, batch_sizes_.data(), offsets_.data(), data<bool>(reset), reverse};
}

}  // namespace ltlstm::binding
