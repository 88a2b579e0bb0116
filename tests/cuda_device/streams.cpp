// SPDX-License-Identifier: Apache-2.0
// csrc/binding/cuda_device.cpp between a CUDA part of torch and a CUDA runtime that are made up
// here: what it asks of both about streams, without a GPU. Prints what is wrong; silent if nothing.
// With LACKING torch has not all functions, and the program prints the error.
#include <cstdio>
#include <set>
#include <stdexcept>

#include "binding/cuda_device.h"
#include "cuda/residency.h"

namespace {

// A stream object as torch has it: not every one of a raw stream is the same.
struct Object {
  void* raw;
  int id;
};
Object current = {nullptr, 1};
int guards = 0, made = 0, next_stream = 0x100;
cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
int priorities[2] = {0, 0};  // streams made of the least, of the greatest

void* raw(int number) { return reinterpret_cast<void*>(static_cast<intptr_t>(number)); }

int wrong = 0;
void expect(bool holds, const char* what) {
  if (!holds) std::printf("wrong: %s\n", what);
  wrong += !holds;
}

}  // namespace

extern "C" {
struct CUDAStreamGuardOpaque {
  Object before;
};
AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream) {
  expect(device == 3, "the stream of another device");
  *stream = current.raw;
  return 0;
}
AOTITorchError aoti_torch_create_cuda_stream_guard(void* stream, int32_t device,
                                                   CUDAStreamGuardHandle* guard) {
  expect(device == 3, "a guard on another device");
  ++guards;
  *guard = new CUDAStreamGuardOpaque{current};
  current = {stream, 100 + guards};
  return 0;
}
AOTITorchError aoti_torch_delete_cuda_stream_guard(CUDAStreamGuardHandle guard) {
  current = guard->before;
  delete guard;
  return 0;
}
#ifndef LACKING
AOTITorchError aoti_torch_cuda_mm_out(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle) {
  return 0;
}
#endif
AOTITorchError aoti_torch_cuda_addmm_out(AtenTensorHandle, AtenTensorHandle, AtenTensorHandle,
                                         AtenTensorHandle, double, double) {
  return 0;
}
AOTITorchError aoti_torch_cuda_fill__Scalar(AtenTensorHandle, double) { return 0; }

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int priority) {
  expect(flags == cudaStreamNonBlocking, "a stream that waits for the default stream");
  expect(mode == cudaStreamCaptureModeRelaxed, "a stream made where a capture would refuse it");
  expect(priority == 0 || priority == -5, "another priority");
  ++priorities[priority == -5];
  ++made;
  *stream = static_cast<cudaStream_t>(raw(next_stream++));
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* other) {
  std::swap(mode, *other);
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int*, cudaDeviceAttr, int) { return cudaSuccess; }
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorString(cudaError_t) { return ""; }
}

namespace ltlstm::cuda {
void count_clusters(DeviceFacts&) {}
}  // namespace ltlstm::cuda

namespace ltlstm::binding {

void the_callers_stream_object_is_left_alone() {
  current = {raw(0x10), 7};
  run_on(3, raw(0x10), [] { expect(current.id == 7, "the caller's stream was made anew"); });
  expect(guards == 0 && current.id == 7, "a guard where nothing was to change");
  run_on(3, raw(0x20), [] { expect(current.raw == raw(0x20), "work for another stream"); });
  expect(guards == 1 && current.id == 7, "another stream object than the caller's after a call");
  try {
    run_on(3, raw(0x20), [] { throw std::runtime_error("a failed product"); });
    expect(false, "an error that got lost");
  } catch (const std::runtime_error&) {
  }
  expect(current.id == 7, "another stream object than the caller's after an error");
}

void side_streams_belong_to_a_caller() {
  const auto set_of = [](int caller) {
    std::set<void*> found;
    for (int lane = 0; lane < 4; ++lane) found.insert(side_stream(3, raw(caller), lane, lane == 0));
    return found;
  };
  const std::set<void*> first = set_of(0x10);
  expect(first.size() == 4 && set_of(0x10) == first, "not the same streams at every call");
  expect(priorities[1] == 1 && priorities[0] == 3, "not the urgent stream before the others");
  expect(side_stream(4, raw(0x10), 0, true) != side_stream(3, raw(0x10), 0, true),
         "a stream of another device");
  for (void* stream : set_of(0x20)) expect(first.count(stream) == 0, "a stream of two callers");
  for (int caller = 0x1000; caller < 0x1000 + 10000; ++caller) set_of(caller);
  expect(made <= 2 * 16 * 4, "more streams with every caller");
  expect(mode == cudaStreamCaptureModeGlobal, "the capture mode of this thread has changed");
}

}  // namespace ltlstm::binding

int main() {
  try {
    ltlstm::binding::the_callers_stream_object_is_left_alone();
    ltlstm::binding::side_streams_belong_to_a_caller();
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 2;
  }
  return wrong != 0;
}
