// SPDX-License-Identifier: Apache-2.0
// The lanes of an operator as streams, and the work that goes into one of them.
//
// An operator forks from its caller's stream and joins it before it returns: to the caller, the
// allocator and a graph capture it is one stream. All memory is the caller's stream's, and what a
// side stream uses is held until the join: the allocator knows nothing of side streams, and would
// give it away. What it gives out after the fork was free before, unless another host thread gives
// work to the same stream meanwhile.
#pragma once

#include <deque>
#include <vector>

#include "binding/cuda_device.h"
#include "cuda/elements.h"
#include "cuda/rows.h"
#include "cuda/sums.h"

namespace ltlstm::binding {

inline void check(cuda::Status status) {
  if (status == cuda::Status::kLaunchFailed) check(cudaGetLastError());
  STD_TORCH_CHECK(status == cuda::Status::kOk, "cuda: launch refused, status ",
                  static_cast<int>(status));
}

class Lanes;

// Where work goes, and where its memory comes from.
class Lane {
 public:
  Lane(Lanes& lanes, int index, void* stream) : lanes_(lanes), index(index), stream(stream) {}

  Tensor empty(const Tensor& like, Shape sizes) const;  // of like's dtype
  Tensor empty_float(const Tensor& like, Shape sizes) const;
  Tensor empty_int64(const Tensor& like, Shape sizes) const;
  Tensor zero(const Tensor& like, Shape sizes) const;
  Tensor zero_float(const Tensor& like, Shape sizes) const;
  void clear(const Tensor& t) const {
    run([=] { STABLE_TORCH_ERROR_CODE_CHECK(LTLSTM_ATEN(fill__Scalar)(t.get(), 0)); });
  }

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
  // Sums over the rows of t (R, width), of dtype scalar, into `out` of `width` elements.
  template <class scalar, class To>
  void column_sums(const Tensor& t, const Tensor& out) const {
    const int64_t width = t.size(1);
    int64_t left = cuda::partial_sums(t.size(0));
    Tensor sums = empty_float(t, {left, width});
    check(cuda::sum_rows(t.size(0), width, data<scalar>(t), mutable_data<float>(sums), stream));
    for (; left > cuda::kSummedRows; left = cuda::partial_sums(left)) {
      const Tensor fewer = empty_float(t, {cuda::partial_sums(left), width});
      check(cuda::sum_rows(left, width, data<float>(sums), mutable_data<float>(fewer), stream));
      sums = fewer;
    }
    if (left == 0) return clear(out);
    check(cuda::sum_rows(left, width, data<float>(sums), mutable_data<To>(out), stream));
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
  Tensor cleared(const Tensor& made) const {
    clear(made);
    return made;
  }
  Lanes& lanes_;

 public:
  const int index;
  void* const stream;  // a cudaStream_t
};

class Event {
 public:
  Event() { check(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
  Event(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }
  cudaEvent_t get() const { return event_; }

 private:
  cudaEvent_t event_;
};

class Lanes {
 public:
  // So many streams, of which the first `urgent` go first where several want an SM; one is the
  // caller's own.
  Lanes(const Tensor& on, int count, int urgent)
      : device_(on.get_device_index()),
        on_device_(device_),
        caller_(current_stream(device_)),
        ends_(count > 1 ? count : 0) {
    lanes_.reserve(count);  // lanes are referred to
    for (int k = 0; k < count; ++k)
      lanes_.emplace_back(*this, k,
                          count > 1 ? side_stream(device_, caller_, k, k < urgent) : caller_);
    if (!overlap()) return;
    const cudaEvent_t start = recorded(caller_);
    for (const Lane& lane : lanes_) wait(lane, start);
  }
  Lanes(const Lanes&) = delete;
  // The join. What fails here failed before: it is torch's next call that says so.
  ~Lanes() {
    for (size_t k = 0; k < ends_.size(); ++k) {
      cudaEventRecord(ends_[k].get(), static_cast<cudaStream_t>(lanes_[k].stream));
      cudaStreamWaitEvent(static_cast<cudaStream_t>(caller_), ends_[k].get(), 0);
    }
    finish(caller_);
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
    const cudaEvent_t event = events_.emplace_back().get();
    check(cudaEventRecord(event, static_cast<cudaStream_t>(stream)));
    return event;
  }

  const int device_;
  const DeviceGuard on_device_;  // no operator of an extension gets one from torch
  void* const caller_;
  std::vector<Lane> lanes_;
  std::vector<Event> ends_;
  std::deque<Event> events_;
  std::vector<Tensor> held_;
};

inline Tensor Lane::empty(const Tensor& like, Shape sizes) const {
  return lanes_.held(binding::empty(like, sizes));
}
inline Tensor Lane::empty_float(const Tensor& like, Shape sizes) const {
  return lanes_.held(binding::empty_float(like, sizes));
}
inline Tensor Lane::empty_int64(const Tensor& like, Shape sizes) const {
  int32_t type = aoti_torch_dtype_int64();
  return lanes_.held(binding::empty(like, sizes, &type));
}
inline void Lane::run(const std::function<void()>& f) const { run_on(lanes_.device(), stream, f); }
inline Tensor Lane::zero(const Tensor& like, Shape sizes) const {
  return cleared(empty(like, sizes));
}
inline Tensor Lane::zero_float(const Tensor& like, Shape sizes) const {
  return cleared(empty_float(like, sizes));
}

}  // namespace ltlstm::binding
