// SPDX-License-Identifier: Apache-2.0
// The lanes of an operator as streams, and the work that goes into one of them.
//
// An operator forks from its caller's stream and joins it before it returns: to the caller, the
// allocator and a graph capture it is one stream. All memory is the caller's stream's, and what a
// side stream uses is held until the join: the allocator knows nothing of side streams, and would
// give it away.
#pragma once

#include <vector>

#include "binding/cuda_device.h"
#include "cuda/elements.h"
#include "cuda/rows.h"

namespace ltlstm::binding {

inline void check(cudaError_t error) {
  STD_TORCH_CHECK(error == cudaSuccess, "cuda: error ", static_cast<int>(error));
}
inline void check(cuda::Status status) {
  STD_TORCH_CHECK(status == cuda::Status::kOk, "cuda: launch failed, status ",
                  static_cast<int>(status));
}

class Lanes;

// Where work goes, and where its memory comes from.
class Lane {
 public:
  Lane(Lanes& lanes, int index, void* stream) : lanes_(lanes), index(index), stream(stream) {}

  Tensor empty(const Tensor& like, Shape sizes) const;  // of like's dtype
  Tensor empty_float(const Tensor& like, Shape sizes) const;
  Tensor zero(const Tensor& like, Shape sizes) const;
  Tensor zero_float(const Tensor& like, Shape sizes) const;
  Tensor ones(const Tensor& like, Shape sizes) const;
  void clear(const Tensor& t) const { fill(t, 0); }

  // f(), whose ATen calls go to this lane and allocate nothing.
  void run(const std::function<void()>& f) const;

  // out = a b, or out += a b; 2-D views, a and b may be transposed.
  void product(const Tensor& out, const Tensor& a, const Tensor& b, bool accumulate) const {
    run([=] {
      if (accumulate) {
        STABLE_TORCH_ERROR_CODE_CHECK(
            LTLSTM_ATEN(addmm_out)(out.get(), out.get(), a.get(), b.get(), 1, 1));
      } else {
        STABLE_TORCH_ERROR_CODE_CHECK(LTLSTM_ATEN(mm_out)(out.get(), a.get(), b.get()));
      }
    });
  }
  // out = x w^T + bias
  void linear(const Tensor& out, const Tensor& x, const Tensor& w,
              const OptionalTensor& bias) const {
    if (!bias) return product(out, x, transposed(w), false);
    const Tensor added = *bias, turned = transposed(w);
    run([=] {
      STABLE_TORCH_ERROR_CODE_CHECK(
          LTLSTM_ATEN(addmm_out)(out.get(), added.get(), x.get(), turned.get(), 1, 1));
    });
  }
  // Sums over the rows of t (R, width), into `out` of `width` elements: a product, so that it is
  // summed in float32 and in an order of its own.
  void column_sums(const Tensor& t, const Tensor& out) const {
    product(matrix(out, 0, 1, t.size(1)), ones(t, {1, t.size(0)}), t, false);
  }
  // Converts where the dtypes differ.
  void copy(const Tensor& from, const Tensor& to) const {
    run([=] { binding::copy(from, to); });
  }
  Tensor as_float(const Tensor& t) const {
    const Tensor wide = empty_float(t, t.sizes());
    copy(t, wide);
    return wide;
  }
  OptionalTensor as_float(const OptionalTensor& t) const {
    return t ? OptionalTensor(as_float(*t)) : OptionalTensor();
  }

  template <class scalar>
  void add(const Tensor& from, const Tensor& to) const {
    check(cuda::add(to.numel(), data<scalar>(from), mutable_data<scalar>(to), stream));
  }
  template <class scalar>
  void multiply(const Tensor& a, const Tensor& b, const Tensor& out, bool accumulate) const {
    check(cuda::multiply(out.numel(), data<scalar>(a), data<scalar>(b), mutable_data<scalar>(out),
                         accumulate, stream));
  }

 private:
  void fill(const Tensor& t, double value) const {
    run([=] { STABLE_TORCH_ERROR_CODE_CHECK(LTLSTM_ATEN(fill__Scalar)(t.get(), value)); });
  }
  Tensor filled(const Tensor& made, double value) const {
    fill(made, value);
    return made;
  }
  Lanes& lanes_;

 public:
  const int index;
  void* const stream;  // a cudaStream_t
};

class Lanes {
 public:
  // So many streams, of which the first `urgent` go first where several want an SM; one is the
  // caller's own.
  Lanes(const Tensor& on, int count, int urgent)
      : device_(on.get_device_index()), caller_(current_stream(device_)) {
    lanes_.reserve(count);  // lanes are referred to
    for (int k = 0; k < count; ++k)
      lanes_.emplace_back(*this, k, count > 1 ? side_stream(device_, k, k < urgent) : caller_);
    if (!overlap()) return;
    const cudaEvent_t start = recorded(caller_);
    for (const Lane& lane : lanes_) wait(lane, start);
  }
  Lanes(const Lanes&) = delete;
  ~Lanes() {
    if (overlap())
      for (const Lane& lane : lanes_)
        cudaStreamWaitEvent(static_cast<cudaStream_t>(caller_), recorded(lane.stream), 0);
    finish(caller_);
    for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  }

  // In turn, as often as asked for.
  const Lane& of(int64_t index) const { return lanes_[index % count()]; }
  int64_t count() const { return static_cast<int64_t>(lanes_.size()); }
  bool overlap() const { return lanes_.size() > 1; }

  // All that a lane has got so far; null where there is one stream and its order is enough.
  cudaEvent_t mark(const Lane& lane) { return overlap() ? recorded(lane.stream) : nullptr; }
  // What a lane gets from now on waits for a mark of another.
  static void wait(const Lane& lane, cudaEvent_t mark) {
    if (mark != nullptr)
      check(cudaStreamWaitEvent(static_cast<cudaStream_t>(lane.stream), mark, 0));
  }

  int device() const { return device_; }
  Tensor held(const Tensor& t) {
    if (overlap() || kDeferred) held_.push_back(t);
    return t;
  }

 private:
  cudaEvent_t recorded(void* stream) {
    cudaEvent_t event;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    events_.push_back(event);
    check(cudaEventRecord(event, static_cast<cudaStream_t>(stream)));
    return event;
  }

  const int device_;
  void* const caller_;
  std::vector<Lane> lanes_;
  std::vector<cudaEvent_t> events_;
  std::vector<Tensor> held_;
};

inline Tensor Lane::empty(const Tensor& like, Shape sizes) const {
  return lanes_.held(binding::empty(like, sizes));
}
inline Tensor Lane::empty_float(const Tensor& like, Shape sizes) const {
  return lanes_.held(binding::empty_float(like, sizes));
}
inline void Lane::run(const std::function<void()>& f) const { run_on(lanes_.device(), stream, f); }
inline Tensor Lane::zero(const Tensor& like, Shape sizes) const {
  return filled(empty(like, sizes), 0);
}
inline Tensor Lane::zero_float(const Tensor& like, Shape sizes) const {
  return filled(empty_float(like, sizes), 0);
}
inline Tensor Lane::ones(const Tensor& like, Shape sizes) const {
  return filled(empty(like, sizes), 1);
}

}  // namespace ltlstm::binding
