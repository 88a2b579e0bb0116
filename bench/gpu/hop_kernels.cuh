// SPDX-License-Identifier: Apache-2.0
// The kernels of hops.cu: each hands on a step's data in one way, and compares what arrives.
#pragma once

#include <cstdint>

#include "cuda/cluster.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

using namespace ltlstm::cuda;

// A GPU before sm_90 has no clusters: there these kernels are empty, and nothing launches them.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define HAS_CLUSTERS
#endif

namespace {

constexpr int kThreads = 256, kLaunches = 6, kMaxBlocks = 1024;
constexpr int kMaxPieces = 4096;  // of 16 bytes
constexpr int kTiles = 16;        // products of a warp and step

struct Results {
  uint64_t ns;
  unsigned wrong;                // pieces
  unsigned flags[kMaxBlocks];    // zeros when a kernel starts
  uint4 pieces[2 * kMaxPieces];  // of two steps
};

__device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }

__device__ __forceinline__ uint4 piece(int step, int index) {
  const auto s = static_cast<unsigned>(step), i = static_cast<unsigned>(index);
  return {s, i, s ^ i, s + i};
}
__device__ __forceinline__ bool differs(uint4 found, int step, int index) {
  const uint4 sent = piece(step, index);
  return found.x != sent.x || found.y != sent.y || found.z != sent.z || found.w != sent.w;
}

// One thread tells how long all steps took.
class Watch {
 public:
  __device__ __forceinline__ explicit Watch(Results* results)
      : results_(results), start_(global_timer_ns()) {}
  __device__ __forceinline__ void stop(bool wrong) const {
    if (wrong) atomicAdd(&results_->wrong, 1u);
    if (thread() == 0 && blockIdx.x == 0) results_->ns = global_timer_ns() - start_;
  }

 private:
  Results* const results_;
  const uint64_t start_;
};

__device__ __forceinline__ void wait_for(const unsigned* counter, unsigned value) {
  constexpr uint64_t kPatienceNs = 2000000000;
  const uint64_t start = global_timer_ns();
  for (unsigned polls = 1; load_acquire(counter) < value; ++polls)
    if (polls % 1024 == 0 && global_timer_ns() - start > kPatienceNs) trap();
}

// `own` pieces of each thread block, which only a barrier of the block separates.
__global__ void in_block(Results* results, int steps, int own) {
  SharedArrays arrays;
  uint4* buffers = arrays.take<uint4>(2 * own);
  bool wrong = false;
  const Watch watch(results);
  for (int step = 0; step < steps; ++step) {
    uint4* buffer = buffers + (step & 1) * own;
    for (int i = thread(); i < own; i += kThreads) buffer[i] = piece(step, i);
    __syncthreads();
    for (int i = thread(); i < own; i += kThreads) {
      const int other = own - 1 - i;
      wrong |= differs(buffer[other], step, other);
    }
  }
  watch.stop(wrong);
}

// A message of a block's piece, asynchronously, to the same place of another block.
template <int kMessage>
__device__ __forceinline__ void send(uint4* to, uint4 value, int part, unsigned rank,
                                     uint64_t* barrier) {
#ifdef HAS_CLUSTERS
  const uint32_t words[4] = {value.x, value.y, value.z, value.w};
  const ClusterAddress there =
      map_to_rank(reinterpret_cast<unsigned char*>(to) + part * kMessage, rank);
  const ClusterAddress full = map_to_rank(barrier, rank);
  if constexpr (kMessage == 16) {
    store_async(there, value, full);
  } else if constexpr (kMessage == 8) {
    const uint32_t low = part == 0 ? words[0] : words[2], high = part == 0 ? words[1] : words[3];
    store_async(there, uint64_t{low} | uint64_t{high} << 32, full);
  } else {
    store_async(there,
                part == 0   ? words[0]
                : part == 1 ? words[1]
                : part == 2 ? words[2]
                            : words[3],
                full);
  }
#endif
}

// Every block's pieces to every block of the cluster: by stores of so many bytes, or with 0 by one
// bulk copy to each, from a place of its own that the copy reads later.
template <int kMessage>
__global__ void in_cluster(Results* results, int steps, int own) {
#ifdef HAS_CLUSTERS
  const auto size = static_cast<int>(cluster_size()), rank = static_cast<int>(cluster_rank());
  const int all = own * size;
  const auto bytes = static_cast<unsigned>(all * 16);
  SharedArrays arrays;
  uint4* buffers = arrays.take<uint4>(2 * all);
  uint64_t* full = arrays.take<uint64_t>(2);
  uint4* staged = kMessage == 0 ? arrays.take<uint4>(2 * own) : nullptr;
  if (thread() == 0) {
    for (int k = 0; k < 2; ++k) mbarrier_init(full + k, 1);
    fence_mbarrier_init();
    for (int k = 0; k < 2; ++k) mbarrier_arrive_expect_tx(full + k, bytes);
  }
  __syncthreads();
  cluster_arrive();
  cluster_wait();
  bool wrong = false;
  const Watch watch(results);
  for (int step = 0; step < steps; ++step) {
    uint4* buffer = buffers + (step & 1) * all;
    uint64_t* barrier = full + (step & 1);
    if constexpr (kMessage == 0) {
      uint4* from = staged + (step & 1) * own;
      for (int i = thread(); i < own; i += kThreads) from[i] = piece(step, rank * own + i);
      fence_proxy_async();
      __syncthreads();
      if (thread() < size) {
        const auto to = static_cast<unsigned>(thread());
        bulk_copy(map_to_rank(buffer + rank * own, to), from, static_cast<unsigned>(own * 16),
                  map_to_rank(barrier, to));
      }
    } else {
      constexpr int kParts = kMessage == 0 ? 1 : 16 / kMessage;
      for (int i = thread(); i < all * kParts; i += kThreads) {
        const int mine = rank * own + i / kParts % own;
        send<kMessage>(buffer + mine, piece(step, mine), i % kParts,
                       static_cast<unsigned>(i / kParts / own), barrier);
      }
    }
    mbarrier_wait(barrier, static_cast<unsigned>(step >> 1 & 1));
    if (thread() == 0 && step + 2 < steps) mbarrier_arrive_expect_tx(barrier, bytes);
    for (int i = thread(); i < all; i += kThreads) wrong |= differs(buffer[i], step, i);
    __syncthreads();  // the block has read a step before it sends the next
  }
  watch.stop(wrong);
  cluster_arrive();  // shared memory outlives the others' stores
  cluster_wait();
#endif
}

__global__ void cluster_barrier(Results* results, int steps, int) {
#ifdef HAS_CLUSTERS
  const Watch watch(results);
  for (int step = 0; step < steps; ++step) {
    cluster_arrive();
    cluster_wait();
  }
  watch.stop(false);
#endif
}

// Every block's pieces through L2: the block's stores, its flag, and a read behind all flags.
__global__ void through_l2(Results* results, int steps, int own) {
  const auto blocks = static_cast<int>(gridDim.x), rank = static_cast<int>(blockIdx.x);
  const int all = own * blocks;
  bool wrong = false;
  const Watch watch(results);
  for (int step = 0; step < steps; ++step) {
    uint4* buffer = results->pieces + (step & 1) * all;
    const auto value = static_cast<unsigned>(step + 1);
    for (int i = thread(); i < own; i += kThreads)
      store_relaxed(buffer + rank * own + i, piece(step, rank * own + i));
    __syncthreads();  // also: the block has read the step before
    if (thread() == 0) store_release(results->flags + rank, value);
    for (int k = thread() % 32; k < blocks; k += 32) wait_for(results->flags + k, value);
    __syncwarp();
    for (int i = thread(); i < all; i += kThreads)
      wrong |= differs(load_relaxed(buffer + i), step, i);
  }
  watch.stop(wrong);
}

// A barrier of all blocks by one counter.
__global__ void grid_barrier(Results* results, int steps, int) {
  const Watch watch(results);
  for (int step = 1; step <= steps; ++step) {
    __syncthreads();
    if (thread() == 0) {
      add_release(results->flags, 1);
      wait_for(results->flags, static_cast<unsigned>(step) * gridDim.x);
    }
    __syncthreads();
  }
  watch.stop(false);
}

// Products of ones: kChains sums of which each waits for itself, so that one is bound by latency.
template <int kChains>
__global__ void multiply(Results* results, int steps, int) {
  uint32_t a[4], b[2];
  for (uint32_t& pair : a) pair = 0x3f803f80u;
  for (uint32_t& pair : b) pair = 0x3f803f80u;
  float sums[kChains][4] = {};
  const Watch watch(results);
  for (int step = 0; step < steps; ++step)
#ifdef __CUDACC__
#pragma unroll
#endif
    for (int k = 0; k < kTiles; ++k)
      mma_m16n8k16<__nv_bfloat16>(sums[k % kChains], a, b, sums[k % kChains]);
  bool wrong = false;
  for (const auto& chain : sums)
    for (const float sum : chain) wrong |= sum != 16.f * kTiles / kChains * steps;
  watch.stop(wrong);
}

}  // namespace
