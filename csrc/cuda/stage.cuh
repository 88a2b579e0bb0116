// SPDX-License-Identifier: Apache-2.0
// What the two time loops have in common: a thread's place and slots, and the stages of a step. In
// a stage, what enters is received from all blocks of the group and multiplied by the weights that
// this block holds, and the lanes get the sums of the rows they finish.
#pragma once

#include "cuda/exchange.cuh"

namespace ltlstm::cuda {

// A thread's place in the launch, and the batch rows of its slots.
template <class P>
class LoopThread {
 protected:
  __device__ __forceinline__ LoopThread(const TimeLoop& loop, const BlockPlace& block,
                                        int64_t first_row)
      : block_(block),
        at_(warp_place(loop)),
        first_n_(first_row + int64_t{block.group} * P::kColumns) {}

  // f(slot, n) for the slots of this lane. n may lie beyond the batch: such a row is never alive.
  template <class F>
  __device__ __forceinline__ void for_slots(const F& f) const {
#pragma unroll
    for (int slot = 0; slot < P::kSlots; ++slot)
      if (P::owns(at_, slot)) f(slot, first_n_ + P::column(at_, slot));
  }

  const BlockPlace block_;
  const WarpPlace at_;
  const int64_t first_n_;
};

// Stands where a kernel has no second stage.
struct Absent {
  template <class... Any>
  __device__ __forceinline__ explicit Absent(const Any&...) {}
};

// kRowTiles_ 2: a warp's part is 8 units with all four gates. 1: a part is 16 single rows. kHeld:
// blocks of K that a warp holds in registers.
template <class scalar_, template <class> class Exchange_, class P, int kRowTiles_, int kHeld>
class Stage {
 public:
  using scalar = scalar_;
  using Exchange = Exchange_<scalar>;
  using Multiplier = Product<scalar, P::kColumnTiles, kRowTiles_, kHeld>;
  using Reducer = Reduction<P, kRowTiles_>;
  using Sums = typename Multiplier::Sums;
  static constexpr int kRowTiles = kRowTiles_;

  // Bytes of dynamic shared memory, and of a group's part of the workspace.
  LTLSTM_INLINE int64_t shared(const TimeLoop& loop, int parts, const Channel& channel) {
    return shared_bytes(Multiplier::shared_elements(parts, channel.width(), loop.k_splits) *
                        static_cast<int>(sizeof(scalar))) +
           shared_bytes(Reducer::shared_elements(loop.warps) *
                        static_cast<int>(sizeof(Values<kRowTiles>))) +
           Exchange::shared(channel, P::kColumns);
  }
  LTLSTM_INLINE int64_t global(const Channel& channel) {
    return Exchange::global(channel, P::kColumns);
  }

  __device__ __forceinline__ Stage(SharedArrays& arrays, const WarpPlace& at, int parts,
                                   const Channel& channel, int rank, int64_t steps,
                                   int64_t patience_ns, unsigned char* workspace)
      : at_(at),
        parts_(parts),
        width_(channel.width()),
        product_(arrays, at, parts, width_),
        reducer_(arrays.take<Values<kRowTiles>>(
            Reducer::shared_elements(static_cast<int>(blockDim.x) / kLanes))),
        exchange_(arrays, channel, P::kColumns, rank, steps, patience_ns, workspace) {}

  __device__ __forceinline__ Multiplier& product() { return product_; }
  __device__ __forceinline__ Exchange& exchange() { return exchange_; }

  // What this lane has in a slot that it owns.
  __device__ __forceinline__ Values<kRowTiles> values(const Sums& sums, int slot) const {
    return reducer_.get(at_, sums, slot);
  }

  // All threads of the block; the warps beyond the parts have no sums.
  __device__ __forceinline__ Sums receive(int64_t step) {
    const int first = at_.first_k(width_), last = at_.last_k(width_);
    const scalar* entering = exchange_.wait(step, first, last);
    Sums sums = {};
    if (at_.part < parts_)
      product_.template add<typename Exchange::From>(sums, at_, entering, exchange_.stride(), first,
                                                     last);
    reducer_.add(at_, sums);
    return sums;
  }

 private:
  const WarpPlace at_;
  const int parts_, width_;
  Multiplier product_;
  Reducer reducer_;
  Exchange exchange_;
};

}  // namespace ltlstm::cuda
