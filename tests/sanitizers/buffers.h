// SPDX-License-Identifier: Apache-2.0
// Memory for the kernels: on the heap and of exactly the size they are told, so that a sanitizer
// sees one element too many; filled with random numbers, or with NaN where they are to write.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace ltlstm::sanitizers {

inline void require(bool condition, const std::string& what) {
  if (condition) return;
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size = 0) : size_(size), data_(new T[size]) {}
  Buffer(int64_t size, T value) : Buffer(size) {
    for (int64_t i = 0; i < size; ++i) data_[i] = value;
  }

  Buffer copy() const {
    Buffer other(size_);
    memcpy(other.data(), data(), size_ * sizeof(T));
    return other;
  }
  bool same_bits(const Buffer& other) const {
    return size_ == other.size_ && memcmp(data(), other.data(), size_ * sizeof(T)) == 0;
  }

  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }
  int64_t size() const { return size_; }

 private:
  int64_t size_;
  std::unique_ptr<T[]> data_;
};

// The memory of something that is there, or null.
template <class T>
auto pointer_if(bool there, T& buffer) {
  return there ? buffer.data() : nullptr;
}

// What a kernel wrote, in the order of its struct.
template <class scalar>
using Results = std::vector<Buffer<scalar>>;

template <class scalar>
void require_same(const Results<scalar>& found, const Results<scalar>& expected,
                  const std::string& what) {
  require(found.size() == expected.size(), what);
  for (size_t i = 0; i < found.size(); ++i)
    require(found[i].same_bits(expected[i]), what + ": other bits in result " + std::to_string(i));
}

template <class scalar>
class Numbers {
 public:
  explicit Numbers(uint32_t seed) : random_(seed) {}

  Buffer<scalar> drawn(int64_t size) {
    Buffer<scalar> buffer(size);
    std::uniform_real_distribution<scalar> uniform(-1, 1);
    for (int64_t i = 0; i < size; ++i) buffer[i] = uniform(random_);
    return buffer;
  }

  Buffer<bool> flags(int64_t size) {
    Buffer<bool> buffer(size);
    for (int64_t i = 0; i < size; ++i) buffer[i] = random_() % 4 == 0;
    return buffer;
  }

  static Buffer<scalar> unwritten(int64_t size) {
    return Buffer<scalar>(size, std::numeric_limits<scalar>::quiet_NaN());
  }

 private:
  std::minstd_rand random_;
};

// All of it was written, but for what lies between rows of `width` that are `stride` apart.
template <class scalar>
void require_written(const Buffer<scalar>& buffer, int64_t width, int64_t stride,
                     const std::string& what) {
  for (int64_t i = 0; i < buffer.size(); ++i)
    require(std::isfinite(buffer[i]) == (i % stride < width),
            what + ": element " + std::to_string(i));
}

}  // namespace ltlstm::sanitizers
