// SPDX-License-Identifier: Apache-2.0
// What the CPU lanes need of torch: large matrix products, threads, and the pointwise passes around
// them.
#pragma once

#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <algorithm>

#include "binding/tensors.h"
#include "cpu/kernels.h"

namespace ltlstm::binding {

// out = a b, or out += a b. All are 2-D views; a and b may be transposed.
inline void product(const Tensor& out, const Tensor& a, const Tensor& b, bool accumulate) {
  if (accumulate) {
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_cpu_addmm_out(out.get(), out.get(), a.get(), b.get(), 1, 1));
  } else {
    STABLE_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(out.get(), a.get(), b.get()));
  }
}

// out = x w^T + bias
inline void linear(const Tensor& out, const Tensor& x, const Tensor& w,
                   const OptionalTensor& bias) {
  if (bias) {
    STABLE_TORCH_ERROR_CODE_CHECK(
        aoti_torch_cpu_addmm_out(out.get(), bias->get(), x.get(), transposed(w).get(), 1, 1));
  } else {
    product(out, x, transposed(w), false);
  }
}

// Pieces of [0, count) on torch's threads, each worth starting a thread for; `work` is the cost of
// one in operations.
template <class Function>
void parallel(int64_t count, int64_t work, const Function& f) {
  constexpr int64_t kWorthAThread = 50000;
  if (count > 0)
    torch::stable::parallel_for(0, count, std::max<int64_t>(1, kWorthAThread / (work + 1)), f);
}

// out = a b element by element, added to out where `accumulate`.
template <class scalar>
void multiply(const Tensor& a, const Tensor& b, const Tensor& out, bool accumulate) {
  const scalar *pa = data<scalar>(a), *pb = data<scalar>(b);
  scalar* to = mutable_data<scalar>(out);
  parallel(out.numel(), 1, [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) to[i] = (accumulate ? to[i] : 0) + pa[i] * pb[i];
  });
}

template <class scalar>
void add(const Tensor& from, const Tensor& to) {
  const scalar* source = data<scalar>(from);
  scalar* sum = mutable_data<scalar>(to);
  parallel(to.numel(), 1, [=](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) sum[i] += source[i];
  });
}

inline Tensor rows_of(const Tensor& t, int64_t first, int64_t rows) {
  return matrix(t, first * t.stride(0), rows, t.size(1), t.stride(0), t.stride(1));
}

// out = d^T x, the gradient of a weight whose product took the rows of x (R, .) to those of d's
// (R, .) value; out is contiguous. In one product of many rows some libraries add each to one float
// sum, also to what is in out already, and digits are lost: so pieces of the rows have products of
// their own, which are added.
template <class scalar>
void sum_over_rows(const Tensor& out, const Tensor& d, const Tensor& x) {
  constexpr int64_t kRowsAtOnce = 1024;
  const int64_t R = x.size(0);
  product(out, transposed(rows_of(d, 0, std::min(R, kRowsAtOnce))),
          rows_of(x, 0, std::min(R, kRowsAtOnce)), false);
  if (R <= kRowsAtOnce) return;
  const Tensor piece = empty(out, out.sizes());
  for (int64_t first = kRowsAtOnce; first < R; first += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, R - first);
    product(piece, transposed(rows_of(d, first, rows)), rows_of(x, first, rows), false);
    add<scalar>(piece, out);
  }
}

template <class scalar>
Tensor weight_gradient(const Tensor& weight, const Tensor& d, const Tensor& x) {
  const Tensor gradient = empty(weight, sizes_of(weight));
  sum_over_rows<scalar>(gradient, d, x);
  return gradient;
}

template <class scalar>
OptionalTensor summed(const OptionalTensor& a, const OptionalTensor& b) {
  if (!a) return std::nullopt;
  Tensor sum = empty(*a, sizes_of(*a));
  const scalar *pa = data<scalar>(*a), *pb = data<scalar>(*b);
  scalar* to = mutable_data<scalar>(sum);
  for (int64_t i = 0, size = sum.numel(); i < size; ++i) to[i] = pa[i] + pb[i];
  return sum;
}

// Sums over the rows of a (R, width) matrix.
inline Tensor column_sums(const Tensor& t) {
  const int64_t over[] = {0};
  return torch::stable::sum(t, torch::headeronly::IntHeaderOnlyArrayRef(over, 1));
}

// A weight matrix in the kernels' packed form: B = w (gates false), or B = w^T, in gate blocks or
// plain ones; or several, w (matrices, ., .), one after the other: a thread that packs a part of
// them all has it in its cache.
template <class scalar>
Tensor packed(const Tensor& w, bool transpose, bool gates) {
  const auto& kernels = cpu::kernels<scalar>();
  const int64_t outer = w.dim() - 2, matrices = outer > 0 ? w.size(0) : 1;
  const int64_t rows = w.size(outer), stride = w.size(outer + 1);
  const int64_t K = transpose ? stride : rows, columns = transpose ? rows : stride;
  const int64_t width = gates ? columns / 4 : columns, blocks = kernels.blocks(width, gates);
  const int64_t size = blocks * kernels.block * K;
  Tensor out = empty(w, {matrices * size});
  const scalar* source = data<scalar>(w);
  scalar* to = mutable_data<scalar>(out);
  parallel(matrices * blocks, K * kernels.block, [&](int64_t first, int64_t last) {
    for (int64_t next; first < last; first = next) {
      const int64_t matrix = first / blocks, start = matrix * blocks;
      next = std::min(last, start + blocks);
      kernels.pack(source + matrix * rows * stride, transpose ? 1 : stride, transpose ? stride : 1,
                   K, width, gates, first - start, next - start, to + matrix * size);
    }
  });
  return out;
}

// w_hh (4H, P) of bfloat16, P even, in gate blocks of pairs: to the packing a pair is one number of
// four bytes.
inline Tensor packed_pairs(const Tensor& w) {
  const auto& kernels = cpu::kernels<float>();
  const int64_t K = w.size(1) / 2, H = w.size(0) / 4, blocks = kernels.blocks(H, true);
  Tensor out = empty_float(w, {blocks * kernels.block * K});
  const float* source = data<float>(w);
  float* to = mutable_data<float>(out);
  parallel(blocks, K * kernels.block, [&](int64_t first, int64_t last) {
    kernels.pack(source, 1, K, K, H, true, first, last, to);
  });
  return out;
}

}  // namespace ltlstm::binding
