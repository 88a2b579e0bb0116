// SPDX-License-Identifier: Apache-2.0
// Fibers: stacks by mmap, and the few instructions that change from one to another.

#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <vector>

#include "runtime.h"
#include "sanitizers.h"

// void emulator_change_stack(void** save_top, void* load_top): pushes what a function must keep,
// changes stacks, pops the same.
extern "C" void emulator_change_stack(void** save_top, void* load_top);

#if defined(__x86_64__)
constexpr int kSavedWords = 6;  // rbp, rbx, r12 to r15; then the return address
asm(R"(.text
.globl emulator_change_stack
.type emulator_change_stack,@function
emulator_change_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_change_stack, .-emulator_change_stack
)");
#elif defined(__aarch64__)
constexpr int kSavedWords = 20;  // x19 to x30, d8 to d15
constexpr int kReturnWord = 11;  // x30
asm(R"(.text
.globl emulator_change_stack
.type emulator_change_stack,%function
emulator_change_stack:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size emulator_change_stack, .-emulator_change_stack
)");
#else
#error "the emulator changes stacks on x86-64 and on AArch64 only"
#endif

namespace emulator {
namespace {

#if defined(EMULATOR_ASAN) || defined(EMULATOR_TSAN)
constexpr size_t kStackBytes = 512 << 10;
#else
constexpr size_t kStackBytes = 128 << 10;
#endif
constexpr size_t kGuardBytes = 4096;
constexpr size_t kSpareStacks = 8192;

// AddressSanitizer tells of the stack that was left only after the change.
thread_local Fiber* leaving = nullptr;

// Stacks that fibers have left, without and with a guard: to map one costs more than a small kernel
// does on it. Not under ThreadSanitizer, which would see two threads on one stack.
struct Spare {
  std::mutex mutex;
  std::vector<char*> stacks[2];

  char* take(bool guarded) {
    const std::lock_guard<std::mutex> lock(mutex);
    std::vector<char*>& from = stacks[guarded];
    if (from.empty()) return nullptr;
    char* memory = from.back();
    from.pop_back();
    return memory;
  }
  bool keep(char* memory, bool guarded) {
#ifdef EMULATOR_TSAN
    return false;
#endif
    const std::lock_guard<std::mutex> lock(mutex);
    if (stacks[guarded].size() == kSpareStacks) return false;
    stacks[guarded].push_back(memory);
    return true;
  }
};

Spare& spare() {
  static Spare* kept = new Spare;  // fibers may end after what is static
  return *kept;
}

char* map_stack(bool guarded) {
  void* memory = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail("no memory for the stack of a thread");
  if (guarded) mprotect(memory, kGuardBytes, PROT_NONE);
  return static_cast<char*>(memory);
}

}  // namespace

Fiber::Fiber() = default;
Fiber::~Fiber() {
  if (memory_ == nullptr) return;
  asan::unpoison(bottom_, kStackBytes);
  if (!spare().keep(memory_, guarded_)) munmap(memory_, kGuardBytes + kStackBytes);
  tsan::destroy(tsan_);
}

void Fiber::start(void (*entry)(), bool guarded) {
  guarded_ = guarded;
  memory_ = spare().take(guarded);
  if (memory_ == nullptr) memory_ = map_stack(guarded);
  bottom_ = memory_ + kGuardBytes;
  bytes_ = kStackBytes;
  // The address may carry the poison of a frame of an earlier fiber.
  asan::unpoison(memory_ + kGuardBytes, kStackBytes);
  // `entry` starts as if called: the stack pointer is 8 past a multiple of 16.
  auto* words = reinterpret_cast<uintptr_t*>(memory_ + kGuardBytes + kStackBytes - 64);
#if defined(__x86_64__)
  *--words = 0;
  *--words = reinterpret_cast<uintptr_t>(entry);
  words -= kSavedWords;
  std::memset(words, 0, kSavedWords * sizeof *words);
#else
  words -= kSavedWords;
  std::memset(words, 0, kSavedWords * sizeof *words);
  words[kReturnWord] = reinterpret_cast<uintptr_t>(entry);
#endif
  top_ = words;
  tsan_ = tsan::create();
}

void Fiber::become_to_tsan() const { tsan::change_to(tsan_); }

void Fiber::arrive_first() { asan::arrive(nullptr, &leaving->bottom_, &leaving->bytes_); }

void Fiber::change_to(Fiber& to) {
  if (tsan_ == nullptr) tsan_ = tsan::current();
  asan::leave(&fake_stack_, to.bottom_, to.bytes_);
  tsan::change_to(to.tsan_);
  leaving = this;
  emulator_change_stack(&top_, to.top_);
  asan::arrive(fake_stack_, &leaving->bottom_, &leaving->bytes_);
}

void Fiber::end_in(Fiber& to) {
  asan::leave(nullptr, to.bottom_, to.bytes_);
  tsan::change_to(to.tsan_);
  leaving = this;
  emulator_change_stack(&top_, to.top_);
  abort();
}

}  // namespace emulator
