// SPDX-License-Identifier: Apache-2.0
// Shared memory, fences and cp.async.

#include "state.h"

// In copy.cpp, which is compiled under the sanitizers of the kernels.
extern "C" void emulator_copy_bytes(char* to, const char* from, int bytes, int zeros);

namespace emulator {

void check_aligned(const void* p, size_t alignment, const char* what) {
  if (reinterpret_cast<uintptr_t>(p) % alignment != 0) {
    fail("%s: the address %p is not a multiple of %zu", what, p, alignment);
  }
}

void check_shared(const void* p, size_t bytes, size_t alignment, const char* what) {
  check_aligned(p, alignment, what);
  if (!in_array(*current->block, static_cast<const char*>(p), bytes)) {
    fail("%s: %zu bytes at %s lie outside the arrays in shared memory", what, bytes,
         shared_place(*current->block, p).c_str());
  }
}

bool in_array(const Block& block, const char* first, size_t bytes) {
  for (const SharedArray& array : block.arrays) {
    if (array.first <= first && first + bytes <= array.end) return true;
  }
  return false;
}

std::string shared_place(const Block& block, const void* p) {
  const char* at = static_cast<const char*>(p);
  const SharedArray* below = nullptr;
  for (const SharedArray& array : block.arrays) {
    if (array.first <= at && (below == nullptr || below->first < array.first)) below = &array;
  }
  const int64_t region = 2 * static_cast<int64_t>(running->shape.shared_bytes);
  if (below == nullptr || at > block.shared + region) return "a place that is not shared memory";
  return "shared array " + std::to_string(below - block.arrays.data()) + " + " +
         std::to_string(at - below->first) + " bytes";
}

void* shared_array(int offset, int bytes) {
  if (offset % 128 != 0) fail("shared_array: the offset %d is not a multiple of 128", offset);
  if (offset + bytes > running->shape.shared_bytes) {
    fail("shared_array: bytes %d to %d of shared memory, and the launch gave %d", offset,
         offset + bytes, running->shape.shared_bytes);
  }
  // Twice the offset: an array of n bytes is followed by a gap of at least n.
  char* array = current->block->shared + 2 * static_cast<ptrdiff_t>(offset);
  if (!in_array(*current->block, array, static_cast<size_t>(bytes))) {
    const tsan::Unnoticed unnoticed;
    current->block->arrays.push_back({array, array + bytes});
    asan::unpoison(array, static_cast<size_t>(bytes));
  }
  return array;
}

bool fenced() { return current->fenced; }

void note_relaxed_load(const void* p) {
  const tsan::Unnoticed unnoticed;
  if (current->relaxed_loads.size() < 64) current->relaxed_loads.push_back(p);
}

void fence() {
  for (const void* p : current->relaxed_loads) tsan::acquire(p);
  current->relaxed_loads.clear();
  current->fenced = true;
  perform_remote_stores();
}

void copy_async(void* shared, const void* global, int bytes, int valid) {
  check_shared(shared, static_cast<size_t>(bytes), static_cast<size_t>(bytes), "cp.async");
  check_aligned(global, static_cast<size_t>(bytes), "cp.async");
  if (valid < 0 || valid > bytes) fail("cp.async: %d of %d bytes", valid, bytes);
  auto* to = static_cast<char*>(shared);
  const auto* from = static_cast<const char*>(global);
  if (chance(4)) {
    emulator_copy_bytes(to, from, valid, bytes - valid);
    return;
  }
  // It may land at once, so that the accesses are this thread's from here on.
  tsan::write(shared, static_cast<size_t>(bytes));
  tsan::read(global, static_cast<size_t>(valid));
  const tsan::Unnoticed unnoticed;
  current->copies.push_back({to, from, bytes, valid, current->group});
}

void commit_copies() { ++current->group; }

void wait_for_copies(int pending) {
  std::vector<AsyncCopy> waiting;
  {
    const tsan::Unnoticed unnoticed;
    waiting.swap(current->copies);
  }
  for (const AsyncCopy& copy : waiting) {
    if (copy.group < current->group - pending) {
      emulator_copy_bytes(copy.shared, copy.global, copy.valid, copy.bytes - copy.valid);
    } else {
      const tsan::Unnoticed unnoticed;
      current->copies.push_back(copy);
    }
  }
}

}  // namespace emulator
