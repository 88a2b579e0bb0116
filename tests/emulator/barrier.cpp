// SPDX-License-Identifier: Apache-2.0
// Barriers of a block and meetings of a warp's lanes.

#include <algorithm>

#include "state.h"

namespace emulator {

void barrier(int id, int threads, int line) {
  Thread* self = current;
  Block* block = self->block;
  Barrier& here = block->barriers[id];
  const int expected = threads < 0 ? static_cast<int>(block->threads.size()) : threads;
  perform_remote_stores();
  self->fenced = false;  // what others tell at the barrier, the fence did not cover
  if (here.arrived == 0) {
    here.expected = expected;
    here.line = line;
  } else if (here.expected != expected) {
    fail("barrier %d: %d threads expected at line %d, %d at line %d", id, expected, line,
         here.expected, here.line);
  } else if (here.line != line) {
    fail("barrier %d: reached at line %d by this thread, at line %d by others", id, line,
         here.line);
  }
  const tsan::Order& order = here.orders[here.phase % 2];
  int64_t& cluster_known = here.cluster_known[here.phase % 2];
  cluster_known = std::max(cluster_known, self->cluster_known);
  order.release();
  if (++here.arrived < here.expected) {
    self->barrier = id;
    self->line = line;
    wait(Waits::kAtBarrier);
  } else {
    for (auto& other : block->threads) {
      if (other->waits == Waits::kAtBarrier && other->barrier == id) wake(other.get());
    }
    here.arrived = 0;
    ++here.phase;
    note_progress();
    if (running->seed != 0) yield();
  }
  order.acquire();
  self->cluster_known = std::max(self->cluster_known, cluster_known);
}

int voting_barrier(Vote vote, bool ballot, int line) {
  Barrier& here = current->block->barriers[0];
  if (here.arrived == 0) {
    here.any = 0;
    here.all = 1;
    here.count = 0;
  }
  here.any |= ballot;
  here.all &= ballot;
  here.count += ballot;
  barrier(0, -1, line);
  const int result = vote == Vote::kAny ? here.any : vote == Vote::kAll ? here.all : here.count;
  barrier(0, -1, line);  // all have read the result before the next vote begins
  return result;
}

namespace {

OpenMeeting& open_meeting(Warp& warp, Meeting meeting, uint32_t mask, int lane, Finish finish) {
  for (OpenMeeting& open : warp.open) {
    if ((open.mask & mask) == 0) continue;
    if (open.mask != mask) {
      if (open.arrived >> lane & 1) continue;
      fail("lanes of a warp meet with the masks %08x and %08x, which overlap", mask, open.mask);
    }
    if (open.meeting != meeting || open.finish != finish) {
      fail("lanes of a warp meet at different instructions (mask %08x)", mask);
    }
    return open;
  }
  const tsan::Order* order = &warp.orders[warp.met++ % 4];
  warp.open.push_back({meeting, finish, mask, 0, {}, order});
  return warp.open.back();
}

}  // namespace

void meet(Meeting meeting, uint32_t mask, Lane arriving, Finish finish) {
  const tsan::Unnoticed unnoticed;
  Thread* self = current;
  Warp& warp = self->block->warps[static_cast<size_t>(self->index) / 32];
  const int lane = self->index % 32;
  if (!(mask >> lane & 1)) fail("lane %d of a warp is not in its own mask %08x", lane, mask);
  OpenMeeting& open = open_meeting(warp, meeting, mask, lane, finish);
  const tsan::Order* order = open.order;
  open.lanes[lane] = arriving;
  open.arrived |= 1u << lane;
  if (meeting == Meeting::kSync) {
    perform_remote_stores();
    order->release();
  }
  if (open.arrived != mask) {
    self->meeting = meeting;
    self->mask = mask;
    wait(Waits::kInMeeting);
  } else {
    finish(open.lanes, mask);
    warp.open.erase(warp.open.begin() + (&open - warp.open.data()));
    for (int other = 0; other < 32; ++other) {
      if (other == lane || !(mask >> other & 1)) continue;
      wake(self->block->threads[static_cast<size_t>(self->index - lane + other)].get());
    }
    note_progress();
    if (running->seed != 0) yield();
  }
  if (meeting == Meeting::kSync) order->acquire();
}

}  // namespace emulator
