// SPDX-License-Identifier: Apache-2.0
// The PTX of thread block clusters (sm_90): each other's shared memory, barriers that count bytes.
//
// A ClusterAddress names a place in the shared memory of a block of the cluster. store_async and
// bulk_copy land at any time, and are seen only through the phase of the mbarrier that counts their
// bytes. cluster_arrive and cluster_wait are .aligned: the lanes of a warp call them together. A
// kernel that uses this header is built for sm_90 or later; the emulator has the same functions.
#pragma once

#include "cuda/intrinsics.cuh"
#include "time_loop.h"

#ifdef __CUDACC__

namespace ltlstm::cuda {

struct ClusterAddress {
  uint32_t address;
};

__device__ __forceinline__ unsigned cluster_rank() {
  unsigned rank;
  asm volatile("mov.u32 %0,%%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ __forceinline__ unsigned cluster_size() {
  unsigned size;
  asm volatile("mov.u32 %0,%%cluster_nctarank;" : "=r"(size));
  return size;
}

// The barrier of all threads of the cluster. What a thread did before cluster_arrive is seen after
// cluster_wait; cluster_arrive_relaxed says only that the thread is there.
__device__ __forceinline__ void cluster_arrive() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_arrive_relaxed() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void cluster_wait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Where the block of that rank has what lies at `own` here.
__device__ __forceinline__ ClusterAddress map_to_rank(const void* own, unsigned rank) {
  ClusterAddress there;
  asm volatile("mapa.shared::cluster.u32 %0,%1,%2;"
               : "=r"(there.address)
               : "r"(shared_address(own)), "r"(rank));
  return there;
}
__device__ __forceinline__ void store_cluster(ClusterAddress to, uint32_t value) {
  asm volatile("st.shared::cluster.u32 [%0],%1;" ::"r"(to.address), "r"(value) : "memory");
}
__device__ __forceinline__ uint32_t load_cluster(ClusterAddress from) {
  uint32_t value;
  asm volatile("ld.shared::cluster.u32 %0,[%1];" : "=r"(value) : "r"(from.address) : "memory");
  return value;
}

// An mbarrier: a phase ends when `count` threads have arrived and all expected bytes have landed.
__device__ __forceinline__ void mbarrier_init(uint64_t* barrier, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0],%1;" ::"r"(shared_address(barrier)), "r"(count)
               : "memory");
}
__device__ __forceinline__ void mbarrier_inval(uint64_t* barrier) {
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Makes this thread's mbarrier_init known to the cluster and to asynchronous operations.
__device__ __forceinline__ void fence_mbarrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void mbarrier_expect_tx(uint64_t* barrier, unsigned bytes) {
  asm volatile(
      "mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0],%1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _,[%0];" ::"r"(shared_address(barrier)) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive_expect_tx(uint64_t* barrier, unsigned bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.shared::cta.b64 _,[%0],%1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
}
__device__ __forceinline__ void mbarrier_arrive_cluster(ClusterAddress barrier) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _,[%0];" ::"r"(barrier.address)
               : "memory");
}
// Whether the phase of that parity (0 for the first) has ended. Acquires what blocks of the cluster
// released by it.
__device__ __forceinline__ bool mbarrier_try_wait(const uint64_t* barrier, unsigned parity) {
  unsigned ended;
  asm volatile(
      "{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p,[%1],%2; "
      "selp.u32 %0,1,0,p;}"
      : "=r"(ended)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return ended;
}
// A lost message ends in an error, not in a hang. A try waits in hardware for a time
// that is not specified, so the clock decides.
__device__ __forceinline__ void mbarrier_wait(const uint64_t* barrier, unsigned parity,
                                              int64_t patience_ns = kUsualPatienceNs) {
  constexpr unsigned kLook = 64;  // tries between two looks at the clock
  if (mbarrier_try_wait(barrier, parity)) return;
  const uint64_t start = global_timer_ns();
  for (unsigned tries = 1; !mbarrier_try_wait(barrier, parity); ++tries)
    if (tries % kLook == 0 && global_timer_ns() - start > static_cast<uint64_t>(patience_ns))
      trap();
}

// Generic writes of this thread to its shared memory are seen by bulk copies issued after this (by
// any thread that a barrier tells), and those of bulk copies do not overtake them.
__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Stores a value and counts its bytes on the mbarrier, both in the same block.
__device__ __forceinline__ void store_async(ClusterAddress to, uint32_t value,
                                            ClusterAddress barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0],%1,[%2];" ::"r"(to.address),
      "r"(value), "r"(barrier.address)
      : "memory");
}
__device__ __forceinline__ void store_async(ClusterAddress to, uint64_t value,
                                            ClusterAddress barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.b64 [%0],%1,[%2];" ::"r"(to.address),
      "l"(value), "r"(barrier.address)
      : "memory");
}
__device__ __forceinline__ void store_async(ClusterAddress to, uint4 value,
                                            ClusterAddress barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0],{%1,%2,%3,%4},[%5];" ::"r"(
          to.address),
      "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w), "r"(barrier.address)
      : "memory");
}
// Copies shared memory of this block, a multiple of 16 bytes, and counts them on the mbarrier. The
// source must stay until then.
__device__ __forceinline__ void bulk_copy(ClusterAddress to, const void* from, unsigned bytes,
                                          ClusterAddress barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes "
      "[%0],[%1],%2,[%3];" ::"r"(to.address),
      "r"(shared_address(from)), "r"(bytes), "r"(barrier.address)
      : "memory");
}

}  // namespace ltlstm::cuda

#endif
