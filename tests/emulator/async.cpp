// SPDX-License-Identifier: Apache-2.0
// st.async and bulk copies: when they land, and what they see.
//
// Rules, checked whatever the schedule: data and mbarrier lie in one block; sizes and alignments;
// an operation is counted in the phase of the mbarrier in which it was issued (stricter than PTX:
// else that phase did not wait for it). A bulk copy reads its source as it was at the block's last
// proxy fence, so a missing one gives old data.
//
// For ThreadSanitizer an operation is done by threads of its own, one engine a warp. The write is
// ordered after what the issuing thread did before, and seen only through the mbarrier.

#include "cluster_state.h"

namespace emulator {
namespace {

constexpr size_t kPiece = 16;  // a bulk copy may land in pieces of so many bytes

// The engines start from the scheduler, which knows nothing of the kernel, so neither do they.
void create(AsyncEngine& engine) {
  if (engine.writer != nullptr) return;
  void* self = tsan::current();
  running->scheduler.become_to_tsan();
  engine.reader = tsan::create();
  engine.writer = tsan::create();
  tsan::name(engine.reader, "asynchronous reader");
  tsan::name(engine.writer, "asynchronous writer");
  tsan::change_to(self);
}

void tell_tsan(const AsyncOperation& operation) {
  AsyncEngine& engine = *operation.engine;
  void* self = tsan::current();
  if (operation.source != nullptr) {
    tsan::change_to(engine.reader);
    tsan::read(operation.source, operation.bytes);
    engine.has_read.release();
  }
  tsan::change_to(engine.writer);
  if (operation.source != nullptr) engine.has_read.acquire();
  engine.issued.acquire();
  tsan::write(operation.destination, operation.bytes);
  operation.barrier->ends[operation.phase % 2].release();
  tsan::change_to(self);
}

void land(Cluster& cluster, size_t which) {
  const AsyncOperation operation = cluster.in_flight[which];
  cluster.in_flight.erase(cluster.in_flight.begin() + static_cast<int64_t>(which));
  if (operation.barrier->phase != operation.phase) {
    fail(
        "%s of block %d, thread %d was issued in phase %ld of the mbarrier of block %d and lands "
        "in phase %ld: too few bytes were expected, or it was issued too early",
        operation.name, operation.from->index, operation.thread, operation.phase,
        operation.to->index, operation.barrier->phase);
  }
  tell_tsan(operation);
  const char* data = operation.value;
  if (operation.source != nullptr) {
    data = operation.from->views[operation.view].bytes.data() + operation.view_offset;
  }
  copy_bytes(operation.destination, data, operation.bytes);
  note_progress();
  count_landed(*operation.barrier, operation.bytes);
}

AsyncOperation issue(ClusterAddress to, size_t bytes, size_t alignment, ClusterAddress barrier,
                     const char* name) {
  AsyncOperation operation{};
  operation.name = name;
  operation.destination = resolve(to, bytes, alignment, name);
  if (to.rank != barrier.rank) {
    fail("%s: the data go to rank %u, the mbarrier is of rank %u", name, to.rank, barrier.rank);
  }
  operation.barrier = &find_published_mbarrier(barrier, name);
  operation.phase = operation.barrier->phase;
  operation.from = current->block;
  operation.to = block_of_rank(to.rank);
  operation.thread = current->index;
  operation.bytes = bytes;
  operation.engine = &current->block->warps[static_cast<size_t>(current->index) / 32].engine;
  create(*operation.engine);
  operation.engine->issued.release();
  return operation;
}

// Which view holds what the proxy sees of the source. One that no copy has read before is taken to
// be up to date if there was a fence at all.
size_t view_of(Block& block, const char* source, size_t bytes) {
  for (size_t k = 0; k < block.views.size(); ++k) {
    if (block.views[k].source == source && block.views[k].bytes.size() == bytes) return k;
  }
  block.views.push_back({source, std::vector<char>(bytes, '\xff')});
  if (block.proxy_fenced) copy_bytes(block.views.back().bytes.data(), source, bytes);
  return block.views.size() - 1;
}

}  // namespace

void land_something(unsigned one_in) {
  Cluster& cluster = own_cluster();
  const size_t count = cluster.in_flight.size();
  if (count == 0) return;
  if (running->seed == 0) {
    if (one_in == 1) land(cluster, 0);
    return;
  }
  if (!chance(one_in)) return;
  // One rank, or none, is slow, so that blocks run ahead of each other as far as they can.
  const auto slow = static_cast<unsigned>(running->seed % (cluster.blocks.size() + 1));
  const bool slow_too = chance(32);
  const size_t first = running->random() % count;
  for (size_t k = 0; k < count; ++k) {
    const size_t which = (first + k) % count;
    if (slow_too || cluster.in_flight[which].to->rank != slow) {
      land(cluster, which);
      return;
    }
  }
}

void store_async(ClusterAddress to, const void* value, int bytes, ClusterAddress barrier) {
  {
    const tsan::Unnoticed unnoticed;
    const auto size = static_cast<size_t>(bytes);
    AsyncOperation operation = issue(to, size, size, barrier, "store_async");
    copy_bytes(operation.value, value, size);
    own_cluster().in_flight.push_back(operation);
    land_something(4);
  }
  if (chance(8)) yield();
}

void fence_proxy_async() {
  Block* block = current->block;
  block->proxy_fence.release();
  block->proxy_fenced = true;
  for (ProxyView& view : block->views) {
    copy_bytes(view.bytes.data(), view.source, view.bytes.size());
  }
}

void bulk_copy(ClusterAddress to, const void* from, unsigned bytes, ClusterAddress barrier) {
  constexpr auto kName = "bulk_copy";
  if (bytes == 0 || bytes % kPiece != 0) fail("%s: %u bytes, not a multiple of 16", kName, bytes);
  check_shared(from, bytes, kPiece, kName);
  const tsan::Unnoticed unnoticed;
  AsyncOperation whole = issue(to, bytes, kPiece, barrier, kName);
  whole.source = static_cast<const char*>(from);
  whole.view = view_of(*current->block, whole.source, bytes);
  void* self = tsan::current();
  tsan::change_to(whole.engine->reader);
  current->block->proxy_fence.acquire();
  tsan::change_to(self);
  // Two pieces, since nothing says in which order the bytes of a copy land.
  const size_t pieces = bytes / kPiece;
  const size_t cut = kPiece * (running->seed == 0 ? pieces / 2 : running->random() % pieces);
  for (const size_t first : {size_t{0}, cut}) {
    AsyncOperation piece = whole;
    piece.bytes = first == 0 && cut != 0 ? cut : bytes - first;
    piece.destination += first;
    piece.source += first;
    piece.view_offset = first;
    own_cluster().in_flight.push_back(piece);
    if (cut == 0) break;
  }
  land_something(4);
}

}  // namespace emulator
