// SPDX-License-Identifier: Apache-2.0
// ltlstm_kernels._C: what is no tensor operator. How this package was built, what this CPU can do,
// and the launch plan of a GPU. No torch header: the module belongs to one Python and to no torch.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <optional>

#include "plan.h"

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

template <class Value, size_t kCount>
Value named(const char* argument, const std::array<std::pair<const char*, Value>, kCount>& values,
            const std::string& name) {
  std::string known;
  for (const auto& [known_name, value] : values) {
    if (name == known_name) return value;
    known += (known.empty() ? "" : ", ") + std::string(known_name);
  }
  throw py::value_error(std::string("plan: ") + argument + " must be one of " + known + ", got '" +
                        name + "'");
}

constexpr std::array<std::pair<const char*, ltlstm::Dtype>, 4> kDtypes = {
    {{"bfloat16", ltlstm::Dtype::kBFloat16},
     {"float16", ltlstm::Dtype::kFloat16},
     {"float32", ltlstm::Dtype::kFloat32},
     {"float64", ltlstm::Dtype::kFloat64}}};
constexpr std::array<std::pair<const char*, ltlstm::Regime>, 4> kRegimes = {
    {{"block", ltlstm::Regime::kBlock},
     {"cluster", ltlstm::Regime::kCluster},
     {"grid", ltlstm::Regime::kGrid},
     {"streamed", ltlstm::Regime::kStreamed}}};

py::dict loop_dict(const ltlstm::TimeLoop& loop) {
  py::dict d;
  d["regime"] = ltlstm::regime_name(loop.regime);
  d["units"] = loop.units;
  d["blocks"] = loop.blocks;
  d["groups"] = loop.groups;
  d["passes"] = loop.passes;
  d["columns"] = loop.columns;
  d["k_splits"] = loop.k_splits;
  d["warps"] = loop.warps;
  d["threads"] = loop.threads;
  d["max_threads"] = loop.max_threads;
  d["projected"] = loop.projected;
  d["held"] = loop.held;
  d["registers"] = loop.registers;
  d["shared_bytes"] = loop.shared_bytes;
  d["us"] = loop.us;
  return d;
}

py::dict lanes_dict(const ltlstm::Lanes& lanes) {
  py::dict d;
  d["overlap"] = lanes.overlap;
  d["at_once"] = lanes.at_once;
  d["time_sms"] = lanes.time_sms;
  d["layer_sms"] = lanes.layer_sms;
  d["chunk"] = lanes.chunk;
  d["us"] = lanes.us;
  d["other_us"] = lanes.other_us;
  return d;
}

py::dict plan(int64_t T, int64_t N, int64_t H, int64_t P, int64_t L, int directions,
              const std::string& dtype, bool training, bool peephole, bool projection,
              bool trajectory, int capability, int sms, int shared_per_block, int registers_per_sm,
              std::array<int, 5> clusters, const std::vector<std::string>& regimes, int blocks,
              int columns, int64_t chunk, std::optional<bool> overlap) {
  const ltlstm::PlanProblem problem{
      T,        N,        H,          P,         L, directions, named("dtype", kDtypes, dtype),
      training, peephole, projection, trajectory};
  ltlstm::DeviceFacts device{capability, sms, shared_per_block, registers_per_sm, {}};
  std::copy(clusters.begin(), clusters.end(), device.clusters);
  ltlstm::Wanted wanted{{}, blocks, columns, chunk, overlap};
  for (const auto& name : regimes) wanted.regimes.push_back(named("regimes", kRegimes, name));
  const ltlstm::Plan found = ltlstm::make_plan(problem, device, wanted);
  py::dict d;
  d["forward"] = loop_dict(found.forward);
  d["backward"] = loop_dict(found.backward);
  d["lanes"] = lanes_dict(found.lanes);
  d["reason"] = found.reason;
  return d;
}

std::array<int, 5> assumed_clusters(int capability, int sms) {
  ltlstm::DeviceFacts facts{};
  facts.capability = capability;
  facts.sms = sms;
  ltlstm::assume_clusters(facts);
  std::array<int, 5> found;
  std::copy(std::begin(facts.clusters), std::end(facts.clusters), found.begin());
  return found;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Build facts, CPU features and the launch plan of ltlstm_kernels.";
  m.def("build_facts", &build_facts, "Compiler, torch versions and libraries of this build.");
  m.def("cpu_features", &cpu_features, "Instruction sets by name; empty on a CPU that is not x86.");
  m.def("assumed_clusters", &assumed_clusters, py::kw_only(), py::arg("capability"), py::arg("sms"),
        "Resident clusters of 1, 2, 4, 8, 16 blocks, where there is no driver to ask.");
  m.def("plan", &plan, py::kw_only(), py::arg("T"), py::arg("N"), py::arg("H"), py::arg("P"),
        py::arg("L"), py::arg("directions"), py::arg("dtype"), py::arg("training"),
        py::arg("peephole"), py::arg("projection"), py::arg("trajectory"), py::arg("capability"),
        py::arg("sms"), py::arg("shared_per_block"), py::arg("registers_per_sm"),
        py::arg("clusters"), py::arg("regimes"), py::arg("blocks"), py::arg("columns"),
        py::arg("chunk"), py::arg("overlap"),
        "The launch plan as dictionaries; ltlstm_kernels.plan gives it types.");
}
