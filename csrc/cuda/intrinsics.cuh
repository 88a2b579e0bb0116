// SPDX-License-Identifier: Apache-2.0
// The PTX instructions that all our GPUs have, from sm_80 on, one function each; those of clusters
// are in cluster.cuh, and no other file holds inline assembly.
//
// Without nvcc the same functions come from the emulator of the tests (-Itests/emulator), with its
// stand-ins for the words of CUDA C++. Addresses are generic pointers; "shared" ones must point
// into the block's own shared memory, and ranges are aligned to their size.
#pragma once

#include <cstdint>

#ifndef __CUDACC__

#include "emulator.h"

#else

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

namespace ltlstm::cuda {

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// So many bytes of the block's dynamic shared memory; see shared.cuh.
__device__ __forceinline__ void* shared_array(int offset, int /*bytes*/) {
  extern __shared__ __align__(128) unsigned char dynamic_shared[];
  return dynamic_shared + offset;
}

// d = a b + c for one 16x8x16 tile of __half or __nv_bfloat16, accumulated in float. Lane 4g + q
// holds of a (16x16): a[0] row g, a[1] row g + 8, each columns 2q, 2q + 1; a[2], a[3] the same rows
// and columns + 8. Of b (16x8): b[0] rows 2q, 2q + 1, b[1] rows + 8, column g. Of c and d (16x8):
// elements 0, 1 row g, 2, 3 row g + 8, columns 2q, 2q + 1.
template <class scalar>
__device__ __forceinline__ void mma_m16n8k16(float* d, const uint32_t* a, const uint32_t* b,
                                             const float* c) {
  if constexpr (std::is_same_v<scalar, __nv_bfloat16>) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
  } else {
    static_assert(std::is_same_v<scalar, __half>, "mma_m16n8k16: __half or __nv_bfloat16");
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%10,%11,%12,%13};"
        : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]), "f"(c[0]), "f"(c[1]),
          "f"(c[2]), "f"(c[3]));
  }
}

// 8x8 tiles of 16-bit elements from shared memory: lane l names row l % 8 of tile l / 8 (16 bytes),
// and gets of each tile row l / 4, columns 2 (l % 4) and the next. _trans: the tiles transposed.
__device__ __forceinline__ void ldmatrix_x4(uint32_t* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1},[%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t* r, const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1},[%2];"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(row))
               : "memory");
}

// Copies kBytes (4, 8 or 16) from global to shared memory at any time before a cp_async_wait of
// this thread covers its group. Only the first `valid` bytes are read; the rest become zero.
template <int kBytes>
__device__ __forceinline__ void cp_async(void* shared, const void* global, int valid = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp_async: 4, 8 or 16 bytes");
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"(shared_address(shared)),
                 "l"(global), "r"(valid)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0],[%1],%2,%3;" ::"r"(shared_address(shared)),
                 "l"(global), "n"(kBytes), "r"(valid)
                 : "memory");
  }
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits until at most kPending of this thread's newest groups are under way.
template <int kPending>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Global memory shared with other blocks of the grid. A poll must use one of these loads.
__device__ __forceinline__ unsigned load_acquire(const unsigned* p) {
  unsigned value;
  asm volatile("ld.acquire.gpu.global.u32 %0,[%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
}
__device__ __forceinline__ unsigned load_relaxed(const unsigned* p) {
  unsigned value;
  asm volatile("ld.relaxed.gpu.global.u32 %0,[%1];" : "=r"(value) : "l"(p) : "memory");
  return value;
}
// Each of the four words by itself: they may come from different stores.
__device__ __forceinline__ uint4 load_relaxed(const uint4* p) {
  uint4 value;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3},[%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(p)
               : "memory");
  return value;
}
__device__ __forceinline__ void store_release(unsigned* p, unsigned value) {
  asm volatile("st.release.gpu.global.u32 [%0],%1;" ::"l"(p), "r"(value) : "memory");
}
__device__ __forceinline__ void store_relaxed(unsigned* p, unsigned value) {
  asm volatile("st.relaxed.gpu.global.u32 [%0],%1;" ::"l"(p), "r"(value) : "memory");
}
__device__ __forceinline__ void store_relaxed(uint4* p, uint4 value) {
  asm volatile("st.relaxed.gpu.global.v4.u32 [%0],{%1,%2,%3,%4};" ::"l"(p), "r"(value.x),
               "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}
// Adds without returning. Release: what the thread did, and what it knows of by a barrier, is seen
// by a thread that acquires the sum.
__device__ __forceinline__ void add_release(unsigned* p, unsigned value) {
  asm volatile("red.release.gpu.global.add.u32 [%0],%1;" ::"l"(p), "r"(value) : "memory");
}

__device__ __forceinline__ uint64_t global_timer_ns() {
  uint64_t time;
  asm volatile("mov.u64 %0,%%globaltimer;" : "=l"(time));
  return time;
}
// Ends the kernel with an error; the context is lost.
__device__ __forceinline__ void trap() { asm volatile("trap;"); }

}  // namespace ltlstm::cuda

#endif
