// SPDX-License-Identifier: Apache-2.0
// The scheduler: which block and which of its threads runs next.

#include <algorithm>

#include "cluster_state.h"

namespace emulator {

Place place;
Thread* current = nullptr;
Grid* running = nullptr;

namespace {

void resume(Thread* thread) {
  current = thread;
  place.thread = thread->place;
  place.block = thread->block->place;
  if (thread->polls) --thread->block->polling;
  thread->polls = false;
  running->scheduler.change_to(thread->fiber);
  current = nullptr;
}

// Runs threads of one block, in random schedules `turn` at a time on average. True if all that they
// can do is poll.
bool run_turn(Block* block, unsigned turn) {
  size_t polls_in_a_row = 0;
  while (block->alive > 0) {
    if (block->ready_count == 0) deadlock("all threads of a block wait for each other");
    resume(block->dequeue());
    const bool all_poll = block->polling == static_cast<int>(block->ready_count);
    polls_in_a_row = all_poll ? polls_in_a_row + 1 : 0;
    if (all_poll && block->ready_count > 0 && polls_in_a_row > block->ready_count) return true;
    if (!all_poll && chance(turn)) return false;
  }
  return false;
}

// Only a cooperative launch promises that all blocks run at once, and only a cluster that its
// blocks do: elsewhere a few clusters run, never all, so that waiting for the others shows.
size_t clusters_at_once(Grid& grid) {
  const size_t all = grid.clusters.size();
  if (grid.shape.cooperative || all == 1) return all;
  constexpr size_t kMost = 4;
  return grid.seed == 0 ? 1 : 1 + grid.random() % std::min(kMost, all - 1);
}

}  // namespace

void schedule(Grid& grid) {
  std::vector<Cluster*> waiting;  // the last is the next
  for (auto& cluster : grid.clusters) waiting.insert(waiting.begin(), cluster.get());
  const size_t at_once = clusters_at_once(grid);
  std::vector<Block*> resident;
  size_t clusters = 0, turn = 0, idle_turns = 0;
  while (true) {
    for (; clusters < at_once && !waiting.empty(); ++clusters) {
      if (grid.seed != 0) std::swap(waiting.back(), waiting[grid.random() % waiting.size()]);
      begin(*waiting.back());
      for (Block* block : waiting.back()->blocks) resident.push_back(block);
      waiting.pop_back();
    }
    if (resident.empty()) return;
    // Many blocks take longer turns: each change finds other memory in the caches.
    const auto turn_length = static_cast<unsigned>(64 * (1 + resident.size() / 16));
    turn = grid.seed != 0 ? grid.random() % resident.size() : turn % resident.size();
    const bool idle = run_turn(resident[turn], turn_length) && !grid.progress;
    grid.progress = false;
    idle_turns = idle ? idle_turns + 1 : 0;
    // Seeded turns are random: each block has had many when this is reached.
    if (idle_turns > 100 * resident.size() + 500) {
      deadlock(waiting.empty() ? "all threads poll and nothing changes"
                               : "all threads poll and nothing changes; the launch is not "
                                 "cooperative, so blocks that did not fit have not begun");
    }
    Cluster& cluster = *resident[turn]->cluster;
    if (resident[turn]->alive > 0) {
      ++turn;
      continue;
    }
    resident.erase(resident.begin() + static_cast<int64_t>(turn));
    if (cluster.alive == 0) {
      end(cluster);
      --clusters;
    }
  }
}

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

void poll(const char* what) {
  current->polled = what;
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

}  // namespace emulator
