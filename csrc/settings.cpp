// SPDX-License-Identifier: Apache-2.0
// What each variable may be.
#include "settings.h"

#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace ltlstm {
namespace {

// "" where it is not set.
std::string setting(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

[[noreturn]] void refuse(const char* op, const char* name, const char* contract,
                         const std::string& value) {
  throw std::invalid_argument(std::string(op) + ": " + name + " must " + contract + ", got " +
                              value);
}

}  // namespace

bool recompute_by_environment() {
  const char* name = "LTLSTM_CUDA_RECOMPUTE";
  const std::string value = setting(name);
  if (!value.empty() && value != "0" && value != "1") refuse("cuda", name, "be 0 or 1", value);
  return value == "1";
}

Wanted wanted_by_environment() {
  Wanted found;
  const char *regime_variable = "LTLSTM_CUDA_REGIME", *chunk_variable = "LTLSTM_CUDA_CHUNK";
  const std::string name = setting(regime_variable), steps = setting(chunk_variable);
  for (const Regime regime : {Regime::kBlock, Regime::kCluster, Regime::kGrid, Regime::kStreamed})
    if (name == regime_name(regime)) found.regimes = {regime};
  if (!name.empty() && found.regimes.empty())
    refuse("plan", regime_variable, "be block, cluster, grid or streamed", name);
  if (!steps.empty()) {
    char* end;
    errno = 0;
    found.chunk = std::strtoll(steps.c_str(), &end, 10);
    if (*end != '\0' || found.chunk <= 0 || errno == ERANGE)
      refuse("plan", chunk_variable, "be a positive number of steps", steps);
  }
  return found;
}

int64_t patience_ns_by_environment() {
  const char* name = "LTLSTM_CUDA_PATIENCE";
  constexpr double kMost = 1e6;  // seconds
  const std::string value = setting(name);
  if (value.empty()) return kUsualPatienceNs;
  char* end;
  const double seconds = std::strtod(value.c_str(), &end);
  if (*end != '\0' || !(seconds > 0 && seconds <= kMost))
    refuse("cuda", name, "be a number of seconds above 0, at most 1e6", value);
  return static_cast<int64_t>(1e9 * seconds);
}

}  // namespace ltlstm
