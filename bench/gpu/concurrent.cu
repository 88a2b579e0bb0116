// SPDX-License-Identifier: Apache-2.0
// What runs beside what: two grids whose blocks wait for each other, such a grid or clusters beside
// a product. The lanes, the wavefront and the two directions of a layer rest on it.
//
//     program MULTIPROCESSORS STEPS CAPABILITY FIRST
//
// One JSON line a pair, from that of number FIRST on: when each launch began and ended alone, and
// when both are in streams of their own, in ns from the first beginning. A wait that does not end
// traps, and then the program ends with status 3.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "cuda/cluster.cuh"
#include "cuda/launch.cuh"

using namespace ltlstm::cuda;

// A GPU before sm_90 has no clusters: there these kernels are empty, and nothing launches them.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define HAS_CLUSTERS
#endif

namespace {

constexpr int kThreads = 256, kMaxBlocks = 4096;
constexpr int kFull = 120 * 1024;  // bytes of shared memory of which no SM has twice as many

struct Times {
  unsigned counter;  // zero when a kernel starts
  uint64_t start[kMaxBlocks], end[kMaxBlocks];
};

__device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x); }
__device__ __forceinline__ void begin(Times* times) {
  if (thread() == 0) times->start[blockIdx.x] = global_timer_ns();
}
__device__ __forceinline__ void end(Times* times) {
  __syncthreads();
  if (thread() == 0) times->end[blockIdx.x] = global_timer_ns();
}

// A barrier of all blocks a step.
__global__ void meet(Times* times, int steps) {
  constexpr uint64_t kPatienceNs = 2000000000;
  begin(times);
  for (int step = 1; step <= steps; ++step) {
    __syncthreads();
    if (thread() == 0) {
      add_release(&times->counter, 1);
      const uint64_t start = global_timer_ns();
      for (unsigned polls = 1;
           load_acquire(&times->counter) < static_cast<unsigned>(step) * gridDim.x; ++polls)
        if (polls % 1024 == 0 && global_timer_ns() - start > kPatienceNs) trap();
    }
  }
  end(times);
}

// A barrier of the cluster a step.
__global__ void meet_in_cluster(Times* times, int steps) {
#ifdef HAS_CLUSTERS
  begin(times);
  for (int step = 0; step < steps; ++step) {
    cluster_arrive();
    cluster_wait();
  }
  end(times);
#endif
}

// A block of a large product, as far as tensor cores and a block's place on an SM go.
__global__ void multiply(Times* times, int steps) {
  uint32_t a[4], b[2];
  for (uint32_t& pair : a) pair = 0x3f803f80u;
  for (uint32_t& pair : b) pair = 0x3f803f80u;
  float sums[4] = {};
  begin(times);
  for (int step = 0; step < steps; ++step) mma_m16n8k16<__nv_bfloat16>(sums, a, b, sums);
  if (sums[0] != 16.f * static_cast<float>(steps)) trap();
  end(times);
}

struct Work {
  void (*kernel)(Times*, int);
  int blocks, steps, shared;
  int cluster = 1;
  bool cooperative = false;
};

struct Span {
  uint64_t start, end;
};

void must(cudaError_t error) {
  if (error == cudaSuccess) return;
  std::printf("\"error\": %d, \"ok\": false}\n", static_cast<int>(error));
  std::fflush(stdout);
  std::exit(3);
}

class Lane {
 public:
  Lane() {
    must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
#ifdef __CUDACC__
    must(cudaMalloc(&times_, sizeof(Times)));
#else
    times_ = new Times;
#endif
  }
  void clear() const { must(cudaMemsetAsync(times_, 0, sizeof(Times), stream_)); }
  void start(const Work& work) const {
    LaunchShape shape;
    shape.blocks = dim3(static_cast<unsigned>(work.blocks));
    shape.threads = dim3(kThreads);
    shape.shared_bytes = work.shared;
    shape.cluster = work.cluster;
    shape.cooperative = work.cooperative;
    must(launch(work.kernel, shape, stream_, times_, work.steps));
  }
  Span span(const Work& work) const {
    static Times times;
    must(cudaMemcpyAsync(&times, times_, sizeof(Times), cudaMemcpyDefault, stream_));
    must(cudaStreamSynchronize(stream_));
    return {*std::min_element(times.start, times.start + work.blocks),
            *std::max_element(times.end, times.end + work.blocks)};
  }

 private:
  cudaStream_t stream_ = nullptr;
  Times* times_ = nullptr;
};

void print(const char* name, Span one, uint64_t zero) {
  std::printf("\"%s\": [%lld, %lld], ", name, static_cast<long long>(one.start - zero),
              static_cast<long long>(one.end - zero));
}

void measure(const char* name, const Work& first, const Work& second) {
  static const Lane one, other;
  std::printf("{\"name\": \"%s\", ", name);
  std::fflush(stdout);  // a crash leaves the name
  Span alone[2], both[2];
  for (int k = 0; k < 2; ++k) {  // the first time kernels are loaded
    one.clear();
    one.start(first);
    alone[0] = one.span(first);
    other.clear();
    other.start(second);
    alone[1] = other.span(second);
  }
  one.clear();
  other.clear();
  must(cudaDeviceSynchronize());
  one.start(first);
  other.start(second);
  must(cudaDeviceSynchronize());
  both[0] = one.span(first);
  both[1] = other.span(second);
  print("first_alone", alone[0], alone[0].start);
  print("second_alone", alone[1], alone[1].start);
  const uint64_t zero = std::min(both[0].start, both[1].start);
  print("first", both[0], zero);
  print("second", both[1], zero);
  const uint64_t last = std::max(both[0].start, both[1].start);
  const uint64_t until = std::min(both[0].end, both[1].end);
  std::printf("\"both_ns\": %lld, \"ok\": true}\n",
              static_cast<long long>(until > last ? until - last : 0));
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 5) {
    std::fprintf(stderr, "usage: %s MULTIPROCESSORS STEPS CAPABILITY FIRST\n", arguments[0]);
    return 2;
  }
  const int all = std::atoi(arguments[1]), steps = std::atoi(arguments[2]);
  const bool clusters = std::atoi(arguments[3]) >= 90;
  int left_out = std::atoi(arguments[4]);
  const auto run = [&](const char* name, const Work& first, const Work& second) {
    if (left_out-- <= 0) measure(name, first, second);
  };
  const auto grid = [&](int blocks) { return Work{meet, blocks, steps, kFull, 1, true}; };
  // Several waves on every SM, each about as long as 100 barriers.
  const Work product = {multiply, std::min(12 * all, kMaxBlocks), steps * 5, kFull / 4};
  run("two half grids", grid(all / 2), grid(all / 2));
  run("a half grid, then a product", grid(all / 2), product);
  run("a product, then a half grid", product, grid(all / 2));
  if (clusters) {
    const int size = std::min(16, all / 2);
    const Work cluster = {meet_in_cluster, size, steps, kFull, size};
    run("a cluster, then a product", cluster, product);
    run("a product, then a cluster", product, cluster);
    run("a half grid, then a cluster", grid(all / 2), cluster);
  }
  // Last, for these do not fit at once: a device that began both in part would not end.
  run("two grids of three quarters", grid(all * 3 / 4), grid(all * 3 / 4));
  run("two whole grids", grid(all), grid(all));
  return 0;
}
