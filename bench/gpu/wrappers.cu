// SPDX-License-Identifier: Apache-2.0
// Runs each wrapper of csrc/cuda once and prints what it gave: on a GPU, and by the emulator on the
// CPU, where the same text must come out. One line a wrapper: its name, and a word for each lane
// and result.
//
//     program CAPABILITY FIRST
//
// From wrapper number FIRST on. One that costs the program its GPU ends it with status 3.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "cuda/cluster.cuh"
#include "cuda/launch.cuh"
#include "cuda/shared.cuh"

using namespace ltlstm::cuda;

// A GPU before sm_90 has no clusters: there these kernels are empty, and nothing launches them.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define HAS_CLUSTERS
#endif

namespace {

constexpr int kLanes = 32, kBlocks = 2, kResults = 8;
constexpr int kWords = kLanes * kBlocks * kResults;

// Words that look random, the same everywhere.
__device__ __forceinline__ uint32_t word(uint32_t index) {
  index = (index + 1) * 2654435761u;
  index = (index ^ (index >> 15)) * 2246822519u;
  return index ^ (index >> 13);
}
__device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x); }

// Two elements of 0.5 to 1, of either sign.
template <class scalar>
__device__ __forceinline__ uint32_t pair(uint32_t index) {
  constexpr bool kHalf = sizeof(scalar) == 2 && std::is_same_v<scalar, __half>;
  const uint32_t fraction = kHalf ? 0x83ff83ffu : 0x807f807fu;
  return (word(index) & fraction) | (kHalf ? 0x38003800u : 0x3f003f00u);
}

template <class scalar>
__global__ void multiply(uint32_t* out, uint32_t*) {
  uint32_t a[4], b[2];
  float c[4], d[4];
  for (int i = 0; i < 4; ++i) a[i] = pair<scalar>(lane() * 4 + i);
  for (int i = 0; i < 2; ++i) b[i] = pair<scalar>(1000 + lane() * 2 + i);
  for (int i = 0; i < 4; ++i) c[i] = static_cast<float>(word(2000 + lane() * 4 + i) % 1024) / 1024;
  mma_m16n8k16<scalar>(d, a, b, c);
  for (int i = 0; i < 4; ++i) std::memcpy(&out[lane() * kResults + i], &d[i], 4);
}

template <int kTiles, bool kTransposed>
__global__ void load_tiles(uint32_t* out, uint32_t*) {
  SharedArrays arrays;
  uint32_t* tiles = arrays.take<uint32_t>(128);
  for (int i = lane(); i < 128; i += kLanes) tiles[i] = word(i);
  __syncthreads();
  uint32_t r[4] = {};
  const void* row = tiles + lane() % (8 * kTiles) * 4;
  if (kTiles == 4 && !kTransposed) ldmatrix_x4(r, row);
  if (kTiles == 4 && kTransposed) ldmatrix_x4_trans(r, row);
  if (kTiles == 2 && !kTransposed) ldmatrix_x2(r, row);
  if (kTiles == 2 && kTransposed) ldmatrix_x2_trans(r, row);
  for (int i = 0; i < kTiles; ++i) out[lane() * kResults + i] = r[i];
}

template <int kBytes, int kValid>
__global__ void copy(uint32_t* out, uint32_t* memory) {
  SharedArrays arrays;
  uint32_t* there = arrays.take<uint32_t>(kLanes * 4);
  for (int i = 0; i < 4; ++i) memory[lane() * 4 + i] = word(lane() * 4 + i);
  __syncthreads();
  cp_async<kBytes>(there + lane() * 4, memory + lane() * 4, kValid);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  for (int i = 0; i < kBytes / 4; ++i) out[lane() * kResults + i] = there[lane() * 4 + i];
}

__global__ void exchange(uint32_t* out, uint32_t* memory) {
  uint32_t* mine = memory + 4 + lane() * 8;
  uint32_t* result = out + lane() * kResults;
  store_release(mine, word(lane()));
  result[0] = load_acquire(mine);
  store_relaxed(mine + 1, word(100 + lane()));
  result[1] = load_relaxed(mine + 1);
  store_relaxed(reinterpret_cast<uint4*>(mine + 4), uint4{word(1), word(2), word(3), word(4)});
  const uint4 four = load_relaxed(reinterpret_cast<uint4*>(mine + 4));
  result[2] = four.x, result[3] = four.y, result[4] = four.z, result[5] = four.w;
  add_release(memory, static_cast<unsigned>(lane()));
  __syncthreads();
  result[6] = load_acquire(memory);
  const uint64_t before = global_timer_ns();
  result[7] = global_timer_ns() >= before;
}

struct Arrays {
  uint32_t *to, *from;
  uint64_t* barrier;
  unsigned rank, peer;
};

__device__ __forceinline__ Arrays arrays_of_cluster(unsigned arrivals) {
  SharedArrays arrays;
  Arrays a = {arrays.take<uint32_t>(kLanes * 4), arrays.take<uint32_t>(kLanes * 4),
              arrays.take<uint64_t>(1), cluster_rank(), 0};
  a.peer = (a.rank + 1) % cluster_size();
  for (int i = 0; i < 4; ++i) {
    a.to[lane() * 4 + i] = 0;
    a.from[lane() * 4 + i] = word(a.rank * 1000 + lane() * 4 + i);
  }
  if (lane() == 0) {
    mbarrier_init(a.barrier, arrivals);
    fence_mbarrier_init();
  }
  __syncthreads();
  return a;
}

__device__ __forceinline__ void meet() {
  cluster_arrive();
  cluster_wait();
}

// Bytes of each lane arrive at the other block: by stores of 4, 8, 16 bytes, or one bulk copy (0).
template <int kBytes>
__global__ void push(uint32_t* out, uint32_t*) {
#ifdef HAS_CLUSTERS
  Arrays a = arrays_of_cluster(1);
  const unsigned all = kLanes * (kBytes == 0 ? 16 : kBytes);
  if (lane() == 0) mbarrier_arrive_expect_tx(a.barrier, all);
  fence_proxy_async();
  meet();
  const uint32_t* from = a.from + lane() * 4;
  const ClusterAddress to = map_to_rank(a.to + lane() * 4, a.peer);
  const ClusterAddress barrier = map_to_rank(a.barrier, a.peer);
  if constexpr (kBytes == 0) {
    if (lane() == 0) bulk_copy(to, a.from, all, barrier);
  } else if constexpr (kBytes == 4) {
    store_async(to, from[0], barrier);
  } else if constexpr (kBytes == 8) {
    store_async(to, uint64_t{from[0]} | uint64_t{from[1]} << 32, barrier);
  } else {
    store_async(to, uint4{from[0], from[1], from[2], from[3]}, barrier);
  }
  mbarrier_wait(a.barrier, 0);
  uint32_t* result = out + (a.rank * kLanes + lane()) * kResults;
  for (int i = 0; i < 4; ++i) result[i] = a.to[lane() * 4 + i];
  result[4] = a.rank, result[5] = cluster_size();
  meet();
#endif
}

// Plain stores and loads across the cluster, and arrivals from afar.
__global__ void visit(uint32_t* out, uint32_t*) {
#ifdef HAS_CLUSTERS
  Arrays a = arrays_of_cluster(kLanes + 1);
  meet();
  uint32_t* result = out + (a.rank * kLanes + lane()) * kResults;
  result[0] = lane() == 0 && mbarrier_try_wait(a.barrier, 0);  // nobody has arrived
  store_cluster(map_to_rank(a.to + lane(), a.peer), a.from[lane()]);
  __syncthreads();
  if (lane() == 0) {
    mbarrier_expect_tx(a.barrier, 0);
    mbarrier_arrive(a.barrier);
  }
  mbarrier_arrive_cluster(map_to_rank(a.barrier, a.peer));
  mbarrier_wait(a.barrier, 0);
  result[1] = a.to[lane()];
  result[2] = load_cluster(map_to_rank(a.from + lane(), a.peer));
  cluster_arrive_relaxed();
  cluster_wait();
  if (lane() == 0) mbarrier_inval(a.barrier);
  meet();
#endif
}

uint32_t* allocate() {
  uint32_t* memory = nullptr;
#ifdef __CUDACC__
  if (cudaMalloc(&memory, kWords * sizeof(uint32_t)) != cudaSuccess) std::abort();
#else
  memory = new (std::align_val_t{16}) uint32_t[kWords];
#endif
  return memory;
}

cudaError_t fill(void (*kernel)(uint32_t*, uint32_t*), const LaunchShape& shape, uint32_t* words) {
  static uint32_t *const out = allocate(), *const memory = allocate();
  constexpr size_t kBytes = kWords * sizeof(uint32_t);
  cudaError_t error = cudaMemsetAsync(out, 0, kBytes);
  if (error == cudaSuccess) error = cudaMemsetAsync(memory, 0, kBytes);
  if (error == cudaSuccess) error = launch(kernel, shape, nullptr, out, memory);
  if (error == cudaSuccess) error = cudaMemcpyAsync(words, out, kBytes, cudaMemcpyDefault);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  return error;
}

int run(const char* name, void (*kernel)(uint32_t*, uint32_t*), int blocks = 1) {
  static uint32_t words[kWords];
  LaunchShape shape;
  shape.blocks = dim3(static_cast<unsigned>(blocks));
  shape.threads = dim3(kLanes);
  shape.shared_bytes = 4096;
  shape.cluster = blocks;
  std::printf("%s", name);
  std::fflush(stdout);  // a crash leaves the name
  const cudaError_t error = fill(kernel, shape, words);
  if (error != cudaSuccess) std::printf(" error %d", static_cast<int>(error));
  for (int i = 0; error == cudaSuccess && i < kLanes * blocks * kResults; ++i)
    std::printf(" %08x", words[i]);
  std::printf("\n");
  std::fflush(stdout);
  if (error != cudaSuccess && cudaDeviceSynchronize() != cudaSuccess) std::exit(3);
  return error != cudaSuccess;
}

struct Wrapper {
  const char* name;
  void (*kernel)(uint32_t*, uint32_t*);
  int blocks = 1;  // of a cluster, where there is more than one
};

constexpr Wrapper kWrappers[] = {
    {"mma_m16n8k16 bf16", multiply<__nv_bfloat16>},
    {"mma_m16n8k16 f16", multiply<__half>},
    {"ldmatrix_x4", load_tiles<4, false>},
    {"ldmatrix_x4_trans", load_tiles<4, true>},
    {"ldmatrix_x2", load_tiles<2, false>},
    {"ldmatrix_x2_trans", load_tiles<2, true>},
    {"cp_async 4", copy<4, 4>},
    {"cp_async 8", copy<8, 8>},
    {"cp_async 16", copy<16, 16>},
    {"cp_async 16 of 4", copy<16, 4>},
    {"loads and stores of global memory", exchange},
    {"store_async 4", push<4>, kBlocks},
    {"store_async 8", push<8>, kBlocks},
    {"store_async 16", push<16>, kBlocks},
    {"bulk_copy", push<0>, kBlocks},
    {"loads, stores and arrivals in a cluster", visit, kBlocks},
};

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) {
    std::fprintf(stderr, "usage: %s CAPABILITY FIRST\n", arguments[0]);
    return 2;
  }
  const bool clusters = std::atoi(arguments[1]) >= 90;
  int left_out = std::atoi(arguments[2]), failed = 0;
  for (const Wrapper& wrapper : kWrappers)
    if (wrapper.blocks == 1 || clusters)
      if (left_out-- <= 0) failed += run(wrapper.name, wrapper.kernel, wrapper.blocks);
  return failed != 0;
}
