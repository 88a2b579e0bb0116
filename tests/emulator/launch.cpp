// SPDX-License-Identifier: Apache-2.0
// The life of a launch: its checks, its blocks and threads, its end.

#include <sys/mman.h>
#include <sys/time.h>

#include <csignal>
#include <cstdlib>

#include "cluster_state.h"

namespace emulator {

int64_t setting(const char* name, int64_t otherwise) {
  const char* value = getenv(name);
  return value != nullptr ? atoll(value) : otherwise;
}

namespace {

constexpr int kMaxShared = 232448;  // bytes of a block on sm_90
constexpr uint64_t kMaxThreads = 1024;
constexpr int kMaxCluster = 16;
// More threads than this leave too few mappings for guards below their stacks.
constexpr uint64_t kGuardedThreads = 20000;
// What nobody has written reads as NaN in every format.
constexpr int kUnwritten = 0xff;

void on_timeout(int) { deadlock("the launch takes longer than EMULATOR_TIMEOUT"); }

// Processor time, for a machine may be busy with other things; 0: no limit.
void limit_processor_time(int64_t seconds) {
  itimerval limit = {};
  limit.it_value.tv_sec = seconds;
  setitimer(ITIMER_PROF, &limit, nullptr);
}

uint64_t volume(dim3 size) { return uint64_t{size.x} * size.y * size.z; }

uint3 place_in(dim3 size, size_t index) {
  const auto k = static_cast<unsigned>(index);
  return {k % size.x, k / size.x % size.y, k / (size.x * size.y)};
}

void thread_entry() {
  Thread* self = current;
  Grid* grid = self->block->grid;
  self->fiber.arrive_first();
  (*grid->body)();
  if (!self->copies.empty()) fail("the thread ends with cp.async copies that it did not wait for");
  end_thread_in_cluster();
  self->block->exits.release();
  self->waits = Waits::kExited;
  if (--self->block->alive == 0) end_block_in_cluster();
  note_progress();
  self->fiber.end_in(grid->scheduler);
}

// Each array has twice its offset, so there is as much again behind it.
size_t shared_region(const Grid& grid) { return 2 * static_cast<size_t>(grid.shape.shared_bytes); }

void begin(Block& block) {
  const Grid& grid = *block.grid;
  const uint64_t count = volume(grid.shape.threads);
  block.alive = static_cast<int>(count);
  block.warps.resize((count + 31) / 32);
  block.ready.resize(count);
  if (const size_t bytes = shared_region(grid)) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for shared memory");
    block.shared = static_cast<char*>(memory);
    std::memset(block.shared, kUnwritten, bytes);
    asan::poison(block.shared, bytes);
  }
  for (uint64_t k = 0; k < count; ++k) {
    auto thread = std::make_unique<Thread>();
    thread->block = &block;
    thread->index = static_cast<int>(k);
    thread->place = place_in(grid.shape.threads, k);
    thread->fiber.start(thread_entry, count * grid.blocks.size() <= kGuardedThreads);
    block.enqueue(thread.get());
    block.threads.push_back(std::move(thread));
  }
}

void end(Block& block) {
  for (Warp& warp : block.warps) {
    if (warp.engine.writer == nullptr) continue;
    tsan::destroy(warp.engine.reader);
    tsan::destroy(warp.engine.writer);
  }
  block.threads.clear();
  if (block.shared == nullptr) return;
  asan::unpoison(block.shared, shared_region(*block.grid));
  munmap(block.shared, shared_region(*block.grid));
}

void check(const ltlstm::cuda::LaunchShape& shape) {
  const uint64_t threads = volume(shape.threads);
  const auto cluster = static_cast<unsigned>(shape.cluster);
  if (volume(shape.blocks) == 0) fail("launch: no blocks");
  if (threads == 0 || threads > kMaxThreads) fail("launch: blocks of %lu threads", threads);
  if (tsan::kMaxThreads < threads * (shape.cooperative ? volume(shape.blocks) : cluster)) {
    fail("launch: %lu threads at once are more than ThreadSanitizer follows",
         threads * volume(shape.blocks));
  }
  if (shape.shared_bytes < 0 || shape.shared_bytes > kMaxShared) {
    fail("launch: %d bytes of shared memory", shape.shared_bytes);
  }
  if (shape.cluster < 1 || shape.cluster > kMaxCluster || shape.blocks.x % cluster != 0) {
    fail("launch: %u blocks in x in clusters of %d", shape.blocks.x, shape.cluster);
  }
}

}  // namespace

void begin(Cluster& cluster) {
  for (Block* block : cluster.blocks) {
    begin(*block);
    cluster.alive += block->alive;
  }
}

void end(Cluster& cluster) {
  for (Block* block : cluster.blocks) end(*block);
}

void run(const ltlstm::cuda::LaunchShape& shape, const std::function<void()>& body) {
  check(shape);
  Grid grid;
  grid.shape = shape;
  grid.body = &body;
  grid.seed = static_cast<uint64_t>(setting("EMULATOR_SEED", 0));
  grid.random_state = grid.seed * 0x9e3779b97f4a7c15 + 1;
  for (int k = 0; k < 8; ++k) grid.random();
  grid.clock_step_ns = static_cast<uint64_t>(setting("EMULATOR_CLOCK_STEP_NS", 100));
  for (uint64_t k = 0; k < volume(shape.blocks); ++k) {
    auto block = std::make_unique<Block>();
    block->grid = &grid;
    block->index = static_cast<int>(k);
    block->place = place_in(shape.blocks, k);
    block->rank = static_cast<unsigned>(k) % static_cast<unsigned>(shape.cluster);
    if (block->rank == 0) grid.clusters.push_back(std::make_unique<Cluster>());
    block->cluster = grid.clusters.back().get();
    block->cluster->blocks.push_back(block.get());
    grid.blocks.push_back(std::move(block));
  }
  running = &grid;
  place.blocks = shape.blocks;
  place.threads = shape.threads;
  const auto old_handler = signal(SIGPROF, on_timeout);
  limit_processor_time(setting("EMULATOR_TIMEOUT", 120));
  schedule(grid);
  limit_processor_time(0);
  signal(SIGPROF, old_handler);
  for (auto& block : grid.blocks) block->exits.acquire();
  running = nullptr;
}

}  // namespace emulator
