// SPDX-License-Identifier: Apache-2.0
// The scheduler: who runs next, and the life of a launch.

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "state.h"

namespace emulator {

Place place;
Thread* current = nullptr;
Grid* running = nullptr;

namespace {

constexpr int kMaxShared = 232448;  // bytes of a block on sm_90
// More threads than this leave too few mappings for guards below their stacks.
constexpr size_t kGuardedThreads = 20000;

int64_t setting(const char* name, int64_t otherwise) {
  const char* value = getenv(name);
  return value != nullptr ? atoll(value) : otherwise;
}

void on_timeout(int) { deadlock("the launch takes longer than EMULATOR_TIMEOUT"); }

void thread_entry() {
  Thread* self = current;
  Grid* grid = self->block->grid;
  self->fiber.arrive_first(grid->scheduler);
  grid->body(grid->context);
  if (!self->copies.empty()) fail("the thread ends with cp.async copies that it did not wait for");
  self->block->exits.release();
  self->waits = Waits::kExited;
  --self->block->alive;
  note_progress();
  self->fiber.end_in(grid->scheduler);
}

void resume(Thread* thread) {
  current = thread;
  place.thread = thread->place;
  place.block = thread->block->place;
  if (thread->polls) --thread->block->polling;
  thread->polls = false;
  running->scheduler.change_to(thread->fiber);
  current = nullptr;
}

// Runs threads of one block until it is another's turn. True if all it can do is poll.
bool run_turn(Block* block) {
  size_t polls_in_a_row = 0;
  while (block->alive > 0) {
    if (block->ready_count == 0) deadlock("all threads of a block wait for each other");
    resume(block->dequeue());
    const bool all_poll = block->polling == static_cast<int>(block->ready_count);
    polls_in_a_row = all_poll ? polls_in_a_row + 1 : 0;
    if (all_poll && block->ready_count > 0 && polls_in_a_row > block->ready_count) return true;
    if (chance(64)) return false;
  }
  return false;
}

void run_all(Grid& grid) {
  std::vector<Block*> alive;
  for (auto& block : grid.blocks) alive.push_back(block.get());
  size_t turn = 0, idle_turns = 0;
  while (!alive.empty()) {
    if (grid.seed != 0) turn = grid.random() % alive.size();
    const bool idle = run_turn(alive[turn]) && !grid.progress;
    grid.progress = false;
    idle_turns = idle ? idle_turns + 1 : 0;
    // Seeded turns are random: each block has had many when this is reached.
    if (idle_turns > 100 * alive.size() + 500) deadlock("all threads poll and nothing changes");
    if (alive[turn]->alive == 0) {
      alive.erase(alive.begin() + static_cast<int64_t>(turn));
    } else {
      ++turn;
    }
    if (turn >= alive.size()) turn = 0;
  }
}

size_t shared_region(const Grid& grid) { return 2 * static_cast<size_t>(grid.shape.shared_bytes); }

// What nobody has written reads as NaN in every format.
constexpr int kUnwritten = 0xff;

void create_block(Grid& grid, int index, int thread_count, bool guarded) {
  const dim3 blocks = grid.shape.blocks, threads = grid.shape.threads;
  auto block = std::make_unique<Block>();
  const auto b = static_cast<unsigned>(index);
  block->grid = &grid;
  block->index = index;
  block->place = {b % blocks.x, b / blocks.x % blocks.y, b / (blocks.x * blocks.y)};
  block->warps.resize((static_cast<size_t>(thread_count) + 31) / 32);
  block->ready.resize(static_cast<size_t>(thread_count));
  block->alive = thread_count;
  if (const size_t bytes = shared_region(grid)) {
    block->shared = static_cast<char*>(aligned_alloc(128, bytes));
    std::memset(block->shared, kUnwritten, bytes);
    asan::poison(block->shared, bytes);
  }
  for (int k = 0; k < thread_count; ++k) {
    auto thread = std::make_unique<Thread>();
    const auto t = static_cast<unsigned>(k);
    thread->block = block.get();
    thread->index = k;
    thread->place = {t % threads.x, t / threads.x % threads.y, t / (threads.x * threads.y)};
    thread->fiber.start(thread_entry, guarded);
    block->enqueue(thread.get());
    block->threads.push_back(std::move(thread));
  }
  grid.blocks.push_back(std::move(block));
}

void destroy_block(Grid& grid, Block& block) {
  block.exits.acquire();
  if (block.shared == nullptr) return;
  asan::unpoison(block.shared, shared_region(grid));
  free(block.shared);
}

}  // namespace

void Block::enqueue(Thread* thread) {
  ready[(first_ready + ready_count++) % ready.size()] = thread;
}

Thread* Block::dequeue() {
  Thread*& first = ready[first_ready];
  if (grid->seed != 0) {
    std::swap(first, ready[(first_ready + grid->random() % ready_count) % ready.size()]);
  }
  first_ready = (first_ready + 1) % ready.size();
  --ready_count;
  return first;
}

uint64_t Grid::random() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state;
}

bool chance(unsigned one_in) { return running->seed != 0 && running->random() % one_in == 0; }

void wait(Waits what) {
  current->waits = what;
  current->fiber.change_to(running->scheduler);
}

void wake(Thread* thread) {
  thread->waits = Waits::kForNothing;
  thread->block->enqueue(thread);
}

void yield() {
  current->block->enqueue(current);
  current->fiber.change_to(running->scheduler);
}

void poll() {
  current->polls = true;
  ++current->block->polling;
  yield();
}

void note_progress() { running->progress = true; }

int lane_id() { return current->index % 32; }

uint64_t timer_ns() {
  poll();
  return running->clock_ns += running->clock_step_ns;
}

void run(const ltlstm::cuda::LaunchShape& shape, void (*body)(void*), void* context) {
  const dim3 blocks = shape.blocks, threads = shape.threads;
  const uint64_t block_count = uint64_t{blocks.x} * blocks.y * blocks.z;
  const uint64_t thread_count = uint64_t{threads.x} * threads.y * threads.z;
  if (block_count == 0) fail("launch: no blocks");
  if (thread_count == 0 || thread_count > 1024) fail("launch: blocks of %lu threads", thread_count);
  if (shape.shared_bytes < 0 || shape.shared_bytes > kMaxShared) {
    fail("launch: %d bytes of shared memory", shape.shared_bytes);
  }
  if (shape.cluster < 1 || shape.cluster > 16 || blocks.x % shape.cluster != 0) {
    fail("launch: %u blocks in x in clusters of %d", blocks.x, shape.cluster);
  }
  Grid grid;
  grid.shape = shape;
  grid.body = body;
  grid.context = context;
  grid.seed = static_cast<uint64_t>(setting("EMULATOR_SEED", 0));
  grid.random_state = grid.seed * 0x9e3779b97f4a7c15 + 1;
  for (int k = 0; k < 8; ++k) grid.random();
  grid.clock_step_ns = static_cast<uint64_t>(setting("EMULATOR_CLOCK_STEP_NS", 100));
  running = &grid;
  place.blocks = blocks;
  place.threads = threads;
  const auto old_handler = signal(SIGALRM, on_timeout);
  alarm(static_cast<unsigned>(setting("EMULATOR_TIMEOUT", 120)));
  for (uint64_t b = 0; b < block_count; ++b) {
    create_block(grid, static_cast<int>(b), static_cast<int>(thread_count),
                 block_count * thread_count <= kGuardedThreads);
  }
  run_all(grid);
  for (auto& block : grid.blocks) destroy_block(grid, *block);
  alarm(0);
  signal(SIGALRM, old_handler);
  running = nullptr;
}

}  // namespace emulator
