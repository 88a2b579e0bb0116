// SPDX-License-Identifier: Apache-2.0
// Which kernel table this machine runs.
#include "cpu/kernels.h"

#include <cstdlib>
#include <cstring>

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
  const char* wanted = std::getenv("LTLSTM_CPU_ISA");
  if (wanted != nullptr && std::strcmp(wanted, "generic") == 0) return kGeneric;
  if (wanted != nullptr && std::strcmp(wanted, "avx2") == 0) return kAvx2;
  if (wanted != nullptr && std::strcmp(wanted, "avx512") == 0) return kAvx512;
  return kAvx512Bf16;
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

// For what reports it, by its name in the library.
extern "C" __attribute__((visibility("default"))) const char* ltlstm_cpu_isa() {
  return ltlstm::cpu::kernels<float>().isa;
}
