// SPDX-License-Identifier: Apache-2.0
// Named arrays from and to files: how a case gets its problem from Python and hands results back.
// A record is a name of 16 bytes, the number of bytes as int64, and the bytes.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace ltlstm::cuda::cases {

constexpr size_t kName = 16;

[[noreturn]] inline void give_up(const std::string& why) {
  std::fprintf(stderr, "case: %s\n", why.c_str());
  std::exit(2);
}

// An allocation of exactly the array's size, so that AddressSanitizer sees every step beyond it.
struct Array {
  int64_t bytes = 0;
  std::unique_ptr<unsigned char[]> data;
};

class Records {
 public:
  void read(const char* path) {
    std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "rb"), std::fclose);
    if (!file) give_up(std::string("cannot read ") + path);
    char name[kName + 1] = {};
    int64_t bytes;
    while (std::fread(name, 1, kName, file.get()) == kName) {
      if (std::fread(&bytes, sizeof bytes, 1, file.get()) != 1) give_up("a record is cut short");
      make(name, bytes);
      if (bytes &&
          std::fread(arrays_[name].data.get(), static_cast<size_t>(bytes), 1, file.get()) != 1)
        give_up("a record is cut short");
    }
  }

  void write(const char* path) const {
    std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path, "wb"), std::fclose);
    if (!file) give_up(std::string("cannot write ") + path);
    for (const auto& [name, array] : arrays_) {
      char padded[kName] = {};
      std::memcpy(padded, name.data(), name.size());
      std::fwrite(padded, 1, kName, file.get());
      std::fwrite(&array.bytes, sizeof(int64_t), 1, file.get());
      std::fwrite(array.data.get(), 1, static_cast<size_t>(array.bytes), file.get());
    }
  }

  // Filled with ones: NaN in every type, so that nothing may be left unwritten.
  void make(const std::string& name, int64_t bytes) {
    Array& array = arrays_[name];
    array.bytes = bytes;
    array.data.reset(new unsigned char[static_cast<size_t>(bytes)]);
    std::memset(array.data.get(), 0xff, static_cast<size_t>(bytes));
  }

  // Null where there is no such array.
  template <class T>
  T* find(const std::string& name) const {
    const auto found = arrays_.find(name);
    return found == arrays_.end() ? nullptr : reinterpret_cast<T*>(found->second.data.get());
  }
  template <class T>
  T* get(const std::string& name) const {
    T* array = find<T>(name);
    if (array == nullptr) give_up("no array " + name);
    return array;
  }

 private:
  std::map<std::string, Array> arrays_;
};

}  // namespace ltlstm::cuda::cases
