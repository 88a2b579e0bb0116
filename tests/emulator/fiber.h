// SPDX-License-Identifier: Apache-2.0
// A stack to run on, and changing over from one to another.
#pragma once

#include <cstddef>

namespace emulator {

class Fiber {
 public:
  // The stack of whoever makes it; others are given one by start().
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;

  // Prepares a stack on which `entry` will run at the first change_to. It must not return.
  // A stack with a guard costs the process two of its 65,530 mappings.
  void start(void (*entry)(), bool guarded);
  // To be called first of all in `entry`.
  void arrive_first();
  // Makes ThreadSanitizer take what follows for this fiber's.
  void become_to_tsan() const;
  // Goes on with `to` until something comes back here.
  void change_to(Fiber& to);
  // The same, for good.
  [[noreturn]] void end_in(Fiber& to);

 private:
  void* top_ = nullptr;  // the stack pointer while another runs
  char* memory_ = nullptr;
  bool guarded_ = false;
  const void* bottom_ = nullptr;  // what AddressSanitizer asks for
  size_t bytes_ = 0;
  void* fake_stack_ = nullptr;
  void* tsan_ = nullptr;
};

}  // namespace emulator
