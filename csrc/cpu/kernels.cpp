// SPDX-License-Identifier: Apache-2.0
// Which kernel table this machine runs.
#include "cpu/kernels.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace ltlstm::cpu {
namespace {

enum Level { kGeneric, kAvx2, kAvx512, kAvx512Bf16 };

Level machine_level() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx2 && avx512) return __builtin_cpu_supports("avx512bf16") ? kAvx512Bf16 : kAvx512;
  if (avx2) return kAvx2;
#endif
  return kGeneric;
}

Level wanted_level() {
  static constexpr const char* kNames[] = {"generic", "avx2", "avx512", "avx512bf16"};  // by Level
  const char* variable = std::getenv("LTLSTM_CPU_ISA");
  const std::string wanted = variable == nullptr ? "" : variable;
  if (wanted.empty()) return kAvx512Bf16;
  std::string known;
  for (int level = kGeneric; level <= kAvx512Bf16; ++level) {
    if (wanted == kNames[level]) return static_cast<Level>(level);
    known += (known.empty() ? "" : ", ") + std::string(kNames[level]);
  }
  throw std::invalid_argument("cpu: LTLSTM_CPU_ISA must be one of " + known + ", got " + wanted);
}

template <class scalar>
const Kernels<scalar>& choose() {
  const Level machine = machine_level(), wanted = wanted_level();
  const Level level = machine < wanted ? machine : wanted;
  if (level == kAvx512Bf16) return *avx512bf16_kernels<scalar>();
  if (level == kAvx512) return *avx512_kernels<scalar>();
  if (level == kAvx2) return *avx2_kernels<scalar>();
  return *generic_kernels<scalar>();
}

}  // namespace

template <class scalar>
const Kernels<scalar>& kernels() {
  static const Kernels<scalar>& chosen = choose<scalar>();
  return chosen;
}

template const Kernels<float>& kernels();
template const Kernels<double>& kernels();

}  // namespace ltlstm::cpu

// For ltlstm_kernels: the name of the instruction set that runs; or false, and why there is none.
extern "C" __attribute__((visibility("default"))) bool ltlstm_cpu_isa(const char** text) {
  try {
    *text = ltlstm::cpu::kernels<float>().isa;
    return true;
  } catch (const std::exception& thrown) {
    static const std::string why = thrown.what();
    *text = why.c_str();
    return false;
  }
}
