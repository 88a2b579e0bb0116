// SPDX-License-Identifier: Apache-2.0
// ltlstm_kernels._C: how this package was built, and what this CPU can do. No torch header: the
// module belongs to one Python and to no torch. No call needs it.

#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace {

py::dict build_facts() {
  py::dict facts;
  facts["compiler"] = __VERSION__;
  facts["torch_target"] = LTLSTM_TORCH_TARGET;
  facts["torch_version"] = LTLSTM_TORCH_VERSION;
  facts["cuda"] = static_cast<bool>(LTLSTM_WITH_CUDA);
  return facts;
}

// The instruction sets a kernel may ask for, each true where the CPU and the system offer it.
py::dict cpu_features() {
  py::dict features;
#if defined(__x86_64__)
  __builtin_cpu_init();
  features["avx2"] = __builtin_cpu_supports("avx2") != 0;
  features["fma"] = __builtin_cpu_supports("fma") != 0;
  features["avx512f"] = __builtin_cpu_supports("avx512f") != 0;
  features["avx512bw"] = __builtin_cpu_supports("avx512bw") != 0;
  features["avx512dq"] = __builtin_cpu_supports("avx512dq") != 0;
  features["avx512vl"] = __builtin_cpu_supports("avx512vl") != 0;
  features["avx512_vnni"] = __builtin_cpu_supports("avx512vnni") != 0;
  features["avx512_bf16"] = __builtin_cpu_supports("avx512bf16") != 0;
#endif
  return features;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Build facts and CPU features of ltlstm_kernels.";
  m.def("build_facts", &build_facts, "Compiler, torch versions and libraries of this build.");
  m.def("cpu_features", &cpu_features, "Instruction sets by name; empty on a CPU that is not x86.");
}
