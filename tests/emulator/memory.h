// SPDX-License-Identifier: Apache-2.0
// Memory: cached loads, atomics, fences, and the loads, stores and copies of intrinsics.cuh.
//
// A fence is expressed in the C++ memory model, so that ThreadSanitizer understands it: an atomic
// after a fence releases, a relaxed load before one acquires. Polls change over to other threads.
#pragma once

#include <type_traits>

#include "runtime.h"

template <class T>
inline T __ldg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
inline void __stcg(T* p, T value) {
  *p = value;
}
template <class T>
inline void __stcs(T* p, T value) {
  *p = value;
}

inline void __threadfence() { emulator::fence(); }
inline void __threadfence_block() { emulator::fence(); }
inline void __nanosleep(unsigned) { emulator::poll(); }

namespace emulator {

template <class T>
using Same = std::common_type_t<T>;  // an argument that takes no part in deducing T

template <class T>
inline void store(T* p, T value, int order) {
  check_aligned(p, sizeof(T), "a store");
  if (order == __ATOMIC_RELEASE) perform_remote_stores();
  __atomic_store(p, &value, order);
  note_progress();
}

// Relaxed, as CUDA's atomics are.
template <class T, class Function>
inline T update(T* p, Function function) {
  check_aligned(p, sizeof(T), "an atomic");
  T before, after;
  __atomic_load(p, &before, __ATOMIC_RELAXED);
  const bool release = fenced();
  bool stored = false;
  while (!stored) {
    after = function(before);
    stored = release ? __atomic_compare_exchange(p, &before, &after, false, __ATOMIC_RELEASE,
                                                 __ATOMIC_RELAXED)
                     : __atomic_compare_exchange(p, &before, &after, false, __ATOMIC_RELAXED,
                                                 __ATOMIC_RELAXED);
  }
  note_relaxed_load(p);
  if (std::memcmp(&before, &after, sizeof(T)) == 0) {
    poll();
  } else {
    note_progress();
    yield();
  }
  return before;
}

}  // namespace emulator

template <class T>
inline T atomicAdd(T* p, emulator::Same<T> value) {
  return emulator::update(p, [=](T old) { return static_cast<T>(old + value); });
}
template <class T>
inline T atomicMax(T* p, emulator::Same<T> value) {
  return emulator::update(p, [=](T old) { return old < value ? value : old; });
}
template <class T>
inline T atomicMin(T* p, emulator::Same<T> value) {
  return emulator::update(p, [=](T old) { return value < old ? value : old; });
}
template <class T>
inline T atomicOr(T* p, emulator::Same<T> value) {
  return emulator::update(p, [=](T old) { return static_cast<T>(old | value); });
}
template <class T>
inline T atomicExch(T* p, emulator::Same<T> value) {
  return emulator::update(p, [=](T) { return value; });
}
template <class T>
inline T atomicCAS(T* p, emulator::Same<T> expected, emulator::Same<T> value) {
  return emulator::update(p, [=](T old) { return old == expected ? value : old; });
}

namespace ltlstm::cuda {

using emulator::shared_array;

template <int kBytes>
inline void cp_async(void* shared, const void* global, int valid = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "cp_async: 4, 8 or 16 bytes");
  emulator::copy_async(shared, global, kBytes, valid);
}
inline void cp_async_commit() { emulator::commit_copies(); }
template <int kPending>
inline void cp_async_wait() {
  emulator::wait_for_copies(kPending);
}

inline unsigned load_acquire(const unsigned* p) {
  emulator::poll();
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
inline unsigned load_relaxed(const unsigned* p) {
  emulator::poll();
  const unsigned value = __atomic_load_n(p, __ATOMIC_RELAXED);
  emulator::note_relaxed_load(p);
  return value;
}
inline uint4 load_relaxed(const uint4* p) {
  emulator::check_aligned(p, sizeof(uint4), "load_relaxed");
  const auto* words = reinterpret_cast<const unsigned*>(p);
  uint4 value;
  value.x = load_relaxed(words);  // others may run between any two
  value.y = load_relaxed(words + 1);
  value.z = load_relaxed(words + 2);
  value.w = load_relaxed(words + 3);
  return value;
}
inline void store_release(unsigned* p, unsigned value) {
  emulator::store(p, value, __ATOMIC_RELEASE);
  emulator::yield();
}
inline void store_relaxed(unsigned* p, unsigned value) {
  emulator::store(p, value, emulator::fenced() ? __ATOMIC_RELEASE : __ATOMIC_RELAXED);
}
inline void store_relaxed(uint4* p, uint4 value) {
  emulator::check_aligned(p, sizeof(uint4), "store_relaxed");
  auto* words = reinterpret_cast<unsigned*>(p);
  const unsigned values[4] = {value.x, value.y, value.z, value.w};
  for (int k = 0; k < 4; ++k) store_relaxed(words + k, values[k]);
  emulator::yield();
}
inline void add_release(unsigned* p, unsigned value) {
  emulator::check_aligned(p, sizeof(unsigned), "add_release");
  emulator::perform_remote_stores();
  __atomic_fetch_add(p, value, __ATOMIC_RELEASE);
  emulator::note_progress();
  emulator::yield();
}

// Time of its own, which passes at each look and at nothing else: a run repeats exactly, and a
// slow machine is no reason to trap.
inline uint64_t global_timer_ns() { return emulator::timer_ns(); }
[[noreturn]] inline void trap() { emulator::fail("the kernel trapped"); }

}  // namespace ltlstm::cuda
