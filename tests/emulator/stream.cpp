// SPDX-License-Identifier: Apache-2.0
// Streams and events: queues, and who is next.

#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "state.h"

struct EmulatedEvent {
  uint64_t recorded = 0, happened = 0;  // the records asked for, and those the streams have passed
  emulator::tsan::Order order = {};
};

namespace emulator {
namespace {

struct Task {
  std::function<void()> work;
  cudaEvent_t awaited;  // or null
  uint64_t record;      // of that event
  uint64_t number;      // in the order of issue
  std::unique_ptr<tsan::Order> issued;
};

}  // namespace
}  // namespace emulator

struct EmulatedStream {
  std::deque<emulator::Task> tasks;
  emulator::Fiber fiber;  // a stack of its own, for ThreadSanitizer watches that too
  emulator::tsan::Order finished = {};

  bool can_go_on() const {
    if (tasks.empty()) return false;
    const auto& [work, awaited, record, number, issued] = tasks.front();
    return awaited == nullptr || awaited->happened >= record;
  }
};

namespace emulator {
namespace {

// Whose turn it is, and where to go after one task.
cudaStream_t active = nullptr;
Fiber* host = nullptr;

void stream_entry() {
  EmulatedStream& self = *active;
  self.fiber.arrive_first();
  while (true) {
    {
      const Task task = std::move(self.tasks.front());
      self.tasks.pop_front();
      task.issued->acquire();
      if (task.awaited != nullptr) task.awaited->order.acquire();
      if (task.work) task.work();
    }  // what the task held is freed in the stream's past
    self.finished.release();
    self.fiber.change_to(*host);
  }
}

class Streams {
 public:
  Streams() { add(); }
  ~Streams() {
    size_t left = 0;
    for (auto& stream : streams_) left += stream->tasks.size();
    if (left > 0) fail("the process ends with %zu operations in streams", left);
  }

  cudaStream_t add() {
    streams_.push_back(std::make_unique<EmulatedStream>());
    streams_.back()->fiber.start(stream_entry, true);
    return streams_.back().get();
  }

  void remove(cudaStream_t stream) {
    finish([=] { return stream->tasks.empty(); });
    for (size_t k = 0; k < streams_.size(); ++k) {
      if (streams_[k].get() != stream) continue;
      streams_.erase(streams_.begin() + static_cast<int64_t>(k));
      return;
    }
  }

  cudaStream_t resolve(cudaStream_t stream) const {
    return stream != nullptr ? stream : streams_[0].get();
  }

  // The waits are numbered from when the device was last waited for.
  bool drops_next_wait() { return waits_++ == setting("EMULATOR_DROP_WAIT", -1); }
  void restart_numbers() { waits_ = 0; }

  void add_task(cudaStream_t stream, std::function<void()> work, cudaEvent_t awaited,
                uint64_t record) {
    auto issued = std::make_unique<tsan::Order>();
    issued->release();
    resolve(stream)->tasks.push_back(
        {std::move(work), awaited, record, issued_++, std::move(issued)});
  }

  template <class Done>
  void finish(Done done) {
    while (!done()) step(next());
    for (auto& stream : streams_) {
      if (stream->tasks.empty()) stream->finished.acquire();
    }
  }

  bool all_empty() const {
    for (auto& stream : streams_) {
      if (!stream->tasks.empty()) return false;
    }
    return true;
  }

 private:
  void step(cudaStream_t stream) {
    Fiber here;
    host = &here;
    active = stream;
    here.change_to(stream->fiber);
  }

  // Some stream can always go on: an event is only waited for once its record is in a queue.
  cudaStream_t next() {
    const int64_t seed = setting("EMULATOR_SEED", 0);
    std::vector<cudaStream_t> able;
    for (auto& stream : streams_) {
      if (stream->can_go_on()) able.push_back(stream.get());
    }
    if (able.empty()) fail("the streams wait for each other");
    if (seed == 0) {
      cudaStream_t oldest = able[0];
      for (cudaStream_t stream : able) {
        if (stream->tasks.front().number < oldest->tasks.front().number) oldest = stream;
      }
      return oldest;
    }
    if (seed % 3 == 1) return able.back();
    if (seed % 3 == 2) return able.front();
    random_ = random_ * 6364136223846793005 + static_cast<uint64_t>(seed);
    return able[(random_ >> 33) % able.size()];
  }

  std::vector<std::unique_ptr<EmulatedStream>> streams_;  // the null stream first
  uint64_t issued_ = 0, random_ = 1;
  int64_t waits_ = 0;
};

// Several threads of a host program may launch; kernels run one at a time.
std::unique_lock<std::recursive_mutex> lock() {
  static std::recursive_mutex mutex;
  return std::unique_lock(mutex);
}

Streams& streams() {
  static Streams all;
  return all;
}

}  // namespace

void enqueue(cudaStream_t stream, std::function<void()> work) {
  const auto locked = lock();
  streams().add_task(stream, std::move(work), nullptr, 0);
}

bool idle() {
  const auto locked = lock();
  return streams().all_empty();
}

}  // namespace emulator

using emulator::lock;
using emulator::streams;

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  const auto locked = lock();
  *stream = streams().add();
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  const auto locked = lock();
  streams().remove(stream);
  return cudaSuccess;
}

// For the record that was asked for last; none, and there is nothing to wait for.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const auto locked = lock();
  if (!streams().drops_next_wait()) streams().add_task(stream, nullptr, event, event->recorded);
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const auto locked = lock();
  stream = streams().resolve(stream);
  streams().finish([=] { return stream->tasks.empty(); });
  return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize() {
  const auto locked = lock();
  streams().finish([] { return streams().all_empty(); });
  streams().restart_numbers();
  return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new EmulatedEvent;
  return cudaSuccess;
}

// What waits for it may still lie in a queue.
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  cudaDeviceSynchronize();
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const auto locked = lock();
  const uint64_t record = ++event->recorded;
  const auto happen = [=] {
    event->happened = record;
    event->order.release();
  };
  streams().add_task(stream, happen, nullptr, 0);
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  const auto locked = lock();
  streams().finish([=] { return event->happened >= event->recorded; });
  event->order.acquire();
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  emulator::enqueue(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t stream) {
  emulator::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}
