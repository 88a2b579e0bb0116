// SPDX-License-Identifier: Apache-2.0
// How the blocks of a cluster pass what enters the next step to each other (sm_90).
//
// Each block has both buffers in its own shared memory and an mbarrier for each. A warp pushes what
// it has put into the buffers of all blocks, its own included, by asynchronous stores that count
// their bytes on the receiver's mbarrier: one phase of it is all bytes of one step. exchange.cuh
// says why a buffer is free when it is written.
#pragma once

#include "cuda/cluster.cuh"
#include "cuda/exchange.cuh"

namespace ltlstm::cuda {

template <class scalar>
class ClusterExchange {
 public:
  using From = FromShared;
  static constexpr Regime kRegime = Regime::kCluster;

  LTLSTM_INLINE int64_t shared(const Channel& channel, int columns) {
    return shared_bytes(buffers_size(channel, columns) * static_cast<int>(sizeof(scalar))) +
           shared_bytes(columns * channel.own * static_cast<int>(sizeof(scalar))) +
           shared_bytes(2 * static_cast<int>(sizeof(uint64_t)));
  }
  LTLSTM_INLINE int64_t global(const Channel&, int /*columns*/) { return 0; }

  __device__ __forceinline__ ClusterExchange(SharedArrays& arrays, const Channel& channel,
                                             int columns, int rank, int64_t steps,
                                             int64_t patience_ns, unsigned char* /*workspace*/)
      : channel_(channel),
        columns_(columns),
        rank_(rank),
        row_(padded_row<scalar>(channel.width())),
        steps_(steps),
        patience_ns_(patience_ns),
        buffers_(arrays.take<scalar>(buffers_size(channel, columns))),
        stage_(arrays.take<scalar>(columns * channel.own)),
        full_(arrays.take<uint64_t>(2)) {
    for (int i = static_cast<int>(threadIdx.x); i < buffers_size(channel, columns);
         i += static_cast<int>(blockDim.x))
      buffers_[i] = scalar(0.f);
    if (threadIdx.x == 0) {
      mbarrier_init(&full_[0], 1);
      mbarrier_init(&full_[1], 1);
      fence_mbarrier_init();
      expect(0);
      expect(1);
    }
  }

  __device__ __forceinline__ int stride() const { return row_; }

  // Every block has its zeros and its mbarriers before anyone pushes. The PTX manual does not say
  // that asynchronous stores are of the async proxy; were they, the fence keeps them behind the
  // zeros.
  __device__ __forceinline__ void start() {
    fence_proxy_async();
    cluster_arrive();
    cluster_wait();
  }

  template <int kCount>
  __device__ __forceinline__ void put(int64_t, int column, int k,
                                      const Pack<scalar, kCount>& values) {
    const int own = k - rank_ * channel_.own;
    *reinterpret_cast<Pack<scalar, kCount>*>(stage_ + column * channel_.own + own) = values;
  }

  // The columns of a slot are four, one of each column pair: 16 bytes go at a time.
  template <class P>
  __device__ __forceinline__ void publish(int64_t step, const WarpPlace& at,
                                          const Written& written) {
    constexpr int kCount = 16 / sizeof(scalar);
    const int stores = written.count > 0 ? written.count / kCount : 0;
    scalar* const buffer = this->buffer(step);
    __syncwarp();
#pragma unroll 1
    for (int piece = at.split; piece < P::kPieces; piece += P::kSplit ? at.splits : 1)
#pragma unroll 1
      for (int i = at.lane; i < 4 * stores * channel_.blocks; i += kLanes) {
        const int peer = i / (4 * stores), column = P::column_of(piece, i / stores % 4);
        const int own = written.first + i % stores * kCount;
        const uint4 values = *reinterpret_cast<const uint4*>(stage_ + column * channel_.own + own);
        const unsigned rank = static_cast<unsigned>(peer);
        store_async(map_to_rank(buffer + column * row_ + rank_ * channel_.own + own, rank), values,
                    map_to_rank(&full_[step & 1], rank));
      }
    __syncwarp();
  }

  // Thread 0 also announces the bytes of the step that will use the buffer next. That is in time: a
  // block sends them only when it has all of the step between, this warp's part included.
  __device__ __forceinline__ const scalar* wait(int64_t step, int, int) {
    mbarrier_wait(&full_[step & 1], static_cast<unsigned>(step >> 1 & 1), patience_ns_);
    if (threadIdx.x == 0) expect(step + 2);
    return buffer(step);
  }

 private:
  LTLSTM_INLINE int buffers_size(const Channel& channel, int columns) {
    return 2 * columns * padded_row<scalar>(channel.width());
  }

  __device__ __forceinline__ void expect(int64_t step) {
    if (step < steps_)
      mbarrier_arrive_expect_tx(
          &full_[step & 1],
          static_cast<unsigned>(columns_ * channel_.width() * static_cast<int>(sizeof(scalar))));
  }
  __device__ __forceinline__ scalar* buffer(int64_t step) const {
    return buffers_ + (step & 1) * columns_ * row_;
  }

  const Channel channel_;
  const int columns_, rank_, row_;
  const int64_t steps_, patience_ns_;
  scalar* const buffers_;
  scalar* const stage_;
  uint64_t* const full_;
};

}  // namespace ltlstm::cuda
