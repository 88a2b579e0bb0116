// SPDX-License-Identifier: Apache-2.0
// What the runtime tells AddressSanitizer and ThreadSanitizer; nothing in a plain build.
//
// The runtime is compiled without -fsanitize=thread, with EMULATOR_TSAN instead: ThreadSanitizer
// must see the accesses of the kernel and the order announced here, not the bookkeeping. Each fiber
// is a thread to it, and changing over orders nothing.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#define EMULATOR_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMULATOR_ASAN
#endif
#endif

#ifdef EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator::asan {

#ifdef EMULATOR_ASAN
inline void leave(void** fake_stack, const void* bottom, size_t size) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, size);
}
inline void arrive(void* fake_stack, const void** old_bottom, size_t* old_size) {
  __sanitizer_finish_switch_fiber(fake_stack, old_bottom, old_size);
}
inline void poison(void* p, size_t bytes) { __asan_poison_memory_region(p, bytes); }
inline void unpoison(const void* p, size_t bytes) { __asan_unpoison_memory_region(p, bytes); }
#else
inline void leave(void**, const void*, size_t) {}
inline void arrive(void*, const void**, size_t*) {}
inline void poison(void*, size_t) {}
inline void unpoison(const void*, size_t) {}
#endif

}  // namespace emulator::asan

#ifdef EMULATOR_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long bytes);
void __tsan_write_range(void* address, unsigned long bytes);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace emulator::tsan {

#ifdef EMULATOR_TSAN
constexpr unsigned kOrdersNothing = 1;
constexpr size_t kMaxThreads = 8000;  // GCC 12's stops at 8,128
inline void* current() { return __tsan_get_current_fiber(); }
inline void* create() { return __tsan_create_fiber(0); }
inline void destroy(void* fiber) { __tsan_destroy_fiber(fiber); }
inline void change_to(void* fiber) { __tsan_switch_to_fiber(fiber, kOrdersNothing); }
inline void name(void* fiber, const char* name) { __tsan_set_fiber_name(fiber, name); }
inline void acquire(const void* p) { __tsan_acquire(const_cast<void*>(p)); }
inline void release(const void* p) { __tsan_release(const_cast<void*>(p)); }
inline void read(const void* p, size_t n) { __tsan_read_range(const_cast<void*>(p), n); }
inline void write(const void* p, size_t n) { __tsan_write_range(const_cast<void*>(p), n); }
inline void ignore() {
  AnnotateIgnoreReadsBegin("emulator", 0);
  AnnotateIgnoreWritesBegin("emulator", 0);
}
inline void notice() {
  AnnotateIgnoreWritesEnd("emulator", 0);
  AnnotateIgnoreReadsEnd("emulator", 0);
}
#else
constexpr size_t kMaxThreads = SIZE_MAX;
inline void* current() { return nullptr; }
inline void* create() { return nullptr; }
inline void destroy(void*) {}
inline void change_to(void*) {}
inline void name(void*, const char*) {}
inline void acquire(const void*) {}
inline void release(const void*) {}
inline void read(const void*, size_t) {}
inline void write(const void*, size_t) {}
inline void ignore() {}
inline void notice() {}
#endif

// While one lives, accesses are the runtime's own: libc's functions and templates shared with the
// kernels are instrumented even here.
struct Unnoticed {
  Unnoticed() { ignore(); }
  ~Unnoticed() { notice(); }
  Unnoticed(const Unnoticed&) = delete;
};

// A point that accesses are ordered by: its address stands for it.
struct Order {
  char address[8];
  void acquire() const { tsan::acquire(address); }
  void release() const { tsan::release(address); }
};

}  // namespace emulator::tsan
