// SPDX-License-Identifier: Apache-2.0
// What it costs to pass a time step's data on: within a block, a cluster and the whole grid; and
// what a tensor core product costs. For the constants of csrc/floor_model.cpp.
//
//     program MULTIPROCESSORS STEPS CAPABILITY FIRST
//
// One JSON line a measurement, from that of number FIRST on: nanoseconds a step of each launch.
// `bytes` is what all blocks of a group send, and each of them receives, in a step, `message` what
// one store of it carries; 0: a bulk copy of all that goes from a block to another. Every piece
// that arrives is compared with what was sent; a wait that does not end traps, and then the program
// ends with status 3.

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "hop_kernels.cuh"

namespace {

Results* allocate() {
  Results* memory = nullptr;
#ifdef __CUDACC__
  if (cudaMalloc(&memory, sizeof(Results)) != cudaSuccess) std::abort();
#else
  memory = new (std::align_val_t{16}) Results;
#endif
  return memory;
}

struct Hop {
  const char* name;
  void (*kernel)(Results*, int, int);
  int blocks = 1, cluster = 1, pieces = 0;  // pieces of all blocks of a group
  int threads = kThreads;
  bool cooperative = false;
  int message = 16;
};

// One launch: its nanoseconds, or -1 where something arrived wrong; and what else was wrong.
cudaError_t time(const Hop& hop, const LaunchShape& shape, int steps, int own, double* ns) {
  static Results* const results = allocate();
  struct Head {
    uint64_t ns;
    unsigned wrong;
  } head = {};
  static_assert(offsetof(Results, wrong) == offsetof(Head, wrong));
  cudaError_t error = cudaMemsetAsync(results, 0, offsetof(Results, pieces));
  if (error == cudaSuccess) error = launch(hop.kernel, shape, nullptr, results, steps, own);
  if (error == cudaSuccess)
    error = cudaMemcpyAsync(&head, results, sizeof(head), cudaMemcpyDefault);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  *ns = head.wrong == 0 ? static_cast<double>(head.ns) / steps : -1;
  return error;
}

// Whether it ran and everything arrived. Ends the program where the GPU is of no more use to it.
bool measure(const Hop& hop, int steps) {
  const int members = hop.cooperative ? hop.blocks : hop.cluster;
  if (hop.pieces > kMaxPieces || hop.blocks > kMaxBlocks) std::abort();
  LaunchShape shape;
  shape.blocks = dim3(static_cast<unsigned>(hop.blocks));
  shape.threads = dim3(static_cast<unsigned>(hop.threads));
  const bool shares = !hop.cooperative && hop.pieces != 0;
  shape.shared_bytes = shares ? shared_bytes(2 * hop.pieces * 16) + shared_bytes(16) : 0;
  if (hop.message == 0) shape.shared_bytes += shared_bytes(2 * hop.pieces / members * 16);
  shape.cluster = hop.cluster;
  shape.cooperative = hop.cooperative;
  std::printf(
      "{\"name\": \"%s\", \"blocks\": %d, \"members\": %d, \"bytes\": %d, \"message\": %d, "
      "\"ns\": [",
      hop.name, hop.blocks, members, hop.pieces * 16, hop.message);
  std::fflush(stdout);  // a crash leaves the name
  cudaError_t error = cudaSuccess;
  bool ok = true;
  for (int k = 0; k < kLaunches && ok; ++k) {
    double ns = 0;
    error = time(hop, shape, steps, hop.pieces / members, &ns);
    ok = error == cudaSuccess && ns >= 0;
    if (ok && k > 0)  // the first launch is slower
      std::printf("%s%.2f", k > 1 ? ", " : "", ns);
  }
  std::printf("], \"ok\": %s}\n", ok ? "true" : "false");
  std::fflush(stdout);
  if (error != cudaSuccess && cudaDeviceSynchronize() != cudaSuccess) std::exit(3);
  return ok;
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
  bool ok = true;
  const auto run = [&](const Hop& hop) {
    if (left_out-- <= 0) ok = measure(hop, steps) && ok;
  };
  run({"block", in_block, 1, 1, 256});
  for (int blocks = all; blocks >= 2; blocks /= 2) {
    run({"grid barrier", grid_barrier, blocks, 1, 0, kThreads, true});
    for (const int own : {1, 8, 16})
      if (own * blocks <= kMaxPieces)
        run({"through L2", through_l2, blocks, 1, own * blocks, kThreads, true});
  }
  for (int size = 2; clusters && size <= 16 && size <= all; size *= 2) {
    run({"cluster barrier", cluster_barrier, size, size});
    for (const int own : {16, 64, 128}) {
      const auto cluster = [&](void (*kernel)(Results*, int, int), int message, int blocks) {
        run({"cluster", kernel, blocks, size, own * size, kThreads, false, message});
      };
      cluster(in_cluster<16>, 16, size);
      cluster(in_cluster<16>, 16, all / size / 2 * size + size);
      cluster(in_cluster<0>, 0, size);
      if (size < std::min(16, all) / 2 || own == 64) continue;  // where messages are many
      cluster(in_cluster<8>, 8, size);
      cluster(in_cluster<4>, 4, size);
    }
  }
  run({"product, one after another", multiply<1>, 1, 1, 0, 32});
  run({"product", multiply<8>, all, 1, 0, kThreads});
  return ok ? 0 : 1;
}
