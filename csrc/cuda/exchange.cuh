// SPDX-License-Identifier: Apache-2.0
// How the blocks of a group pass what enters the next step to each other: within one block, or
// through L2. exchange_cluster.cuh has the third way, through the shared memory of a cluster.
//
// All exchanges work alike. A step's data lie in one of two buffers of `columns` rows of K elements
// each. put() writes elements of this block's slice for a step, publish() hands over what the block
// has put, wait() returns when a slice of K is there from all blocks that own it.
//
// Nobody says "buffer free". A block puts data of step s + 1 only after all its warps together have
// received all of step s; every block sent that after it had read all of step s - 1, whose buffer
// is the one that s + 1 overwrites. This rests on two things: the warps' slices cover all of K, and
// a warp puts only after the other warps of its block have received theirs (a reduction's barrier,
// or K not split).
#pragma once

#include "cuda/pack.cuh"
#include "cuda/product.cuh"

namespace ltlstm::cuda {

// The part of the block's slice that one warp has put: of the columns of the pieces it owns, the
// elements [first, first + count).
struct Written {
  int first, count;
};

// One block is the whole group.
template <class scalar>
class BlockExchange {
 public:
  using From = FromShared;
  static constexpr Regime kRegime = Regime::kBlock;

  LTLSTM_INLINE int64_t shared(const Channel& channel, int columns) {
    return shared_bytes(2 * columns * padded_row<scalar>(channel.width()) *
                        static_cast<int>(sizeof(scalar)));
  }
  LTLSTM_INLINE int64_t global(const Channel&, int /*columns*/) { return 0; }

  __device__ __forceinline__ BlockExchange(SharedArrays& arrays, const Channel& channel,
                                           int columns, int /*rank*/, int64_t /*steps*/,
                                           int64_t /*patience_ns*/, unsigned char* /*workspace*/)
      : columns_(columns),
        row_(padded_row<scalar>(channel.width())),
        buffers_(arrays.take<scalar>(2 * columns * row_)) {
    // The padding of K is read as well: it must be zeros, whatever lay there.
    for (int i = static_cast<int>(threadIdx.x); i < 2 * columns * row_;
         i += static_cast<int>(blockDim.x))
      buffers_[i] = scalar(0.f);
  }

  __device__ __forceinline__ int stride() const { return row_; }

  // All threads of the block, before the first put.
  __device__ __forceinline__ void start() { __syncthreads(); }

  template <int kCount>
  __device__ __forceinline__ void put(int64_t step, int column, int k,
                                      const Pack<scalar, kCount>& values) {
    *reinterpret_cast<Pack<scalar, kCount>*>(buffer(step) + column * row_ + k) = values;
  }
  template <class P>
  __device__ __forceinline__ void publish(int64_t, const WarpPlace&, const Written&) {
    __syncthreads();
  }
  __device__ __forceinline__ const scalar* wait(int64_t step, int, int) { return buffer(step); }

 private:
  __device__ __forceinline__ scalar* buffer(int64_t step) const {
    return buffers_ + (step & 1) * columns_ * row_;
  }

  const int columns_, row_;
  scalar* const buffers_;
};

// Blocks anywhere on the GPU, all running at once: a cooperative launch. The buffers lie in global
// memory and travel through L2; each block has a flag that counts the steps it has published.
template <class scalar>
class GridExchange {
 public:
  using From = FromGlobal;
  static constexpr Regime kRegime = Regime::kGrid;

  LTLSTM_INLINE int64_t shared(const Channel&, int /*columns*/) { return 0; }
  // Of one group, zeros when the kernel starts.
  LTLSTM_INLINE int64_t global(const Channel& channel, int columns) {
    return buffer_bytes(channel, columns) + round_up(channel.blocks * 4, 128);
  }

  __device__ __forceinline__ GridExchange(SharedArrays&, const Channel& channel, int columns,
                                          int rank, int64_t /*steps*/, int64_t patience_ns,
                                          unsigned char* workspace)
      : channel_(channel),
        columns_(columns),
        rank_(rank),
        row_(padded_row<scalar>(channel.width())),
        patience_ns_(patience_ns),
        buffers_(reinterpret_cast<scalar*>(workspace)),
        flags_(reinterpret_cast<unsigned*>(workspace + buffer_bytes(channel, columns))) {}

  __device__ __forceinline__ int stride() const { return row_; }

  // What a block has loaded is seen behind the barrier of its first publish.
  __device__ __forceinline__ void start() {}

  template <int kCount>
  __device__ __forceinline__ void put(int64_t step, int column, int k,
                                      const Pack<scalar, kCount>& values) {
    *reinterpret_cast<Pack<scalar, kCount>*>(buffer(step) + column * row_ + k) = values;
  }

  // The barrier makes the whole block's stores known to thread 0, its release to everybody.
  template <class P>
  __device__ __forceinline__ void publish(int64_t step, const WarpPlace&, const Written&) {
    __syncthreads();
    if (threadIdx.x == 0) store_release(flags_ + rank_, static_cast<unsigned>(step + 1));
  }

  // Each lane watches the flags of some of the blocks that own elements [first, last) of K.
  __device__ __forceinline__ const scalar* wait(int64_t step, int first, int last) {
    const int end = min(last, channel_.width());
    for (int block = first / channel_.own + static_cast<int>(threadIdx.x) % kLanes;
         block * channel_.own < end; block += kLanes)
      wait_for(flags_ + block, static_cast<unsigned>(step + 1));
    __syncwarp();
    return buffer(step);
  }

 private:
  LTLSTM_INLINE int64_t buffer_bytes(const Channel& channel, int columns) {
    return round_up(int64_t{2} * columns * padded_row<scalar>(channel.width()) * sizeof(scalar),
                    128);
  }

  // A block that never comes ends in an error, not in a hang.
  __device__ __forceinline__ void wait_for(const unsigned* flag, unsigned value) const {
    constexpr unsigned kLook = 1024;  // polls between two looks at the clock
    if (load_acquire(flag) >= value) return;
    const uint64_t start = global_timer_ns();
    for (unsigned polls = 1; load_acquire(flag) < value; ++polls)
      if (polls % kLook == 0 && global_timer_ns() - start > static_cast<uint64_t>(patience_ns_))
        trap();
  }

  __device__ __forceinline__ scalar* buffer(int64_t step) const {
    return buffers_ + (step & 1) * columns_ * row_;
  }

  const Channel channel_;
  const int columns_, rank_, row_;
  const int64_t patience_ns_;
  scalar* const buffers_;
  unsigned* const flags_;
};

}  // namespace ltlstm::cuda
