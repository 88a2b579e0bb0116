// SPDX-License-Identifier: Apache-2.0
// The launch plan for ltlstm_kernels.plan: plain C functions, so that it needs no Python version.
// They answer in JSON, which names each field; what cannot be is {"error": "..."}.
#include <algorithm>
#include <array>
#include <iomanip>
#include <iterator>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "plan.h"
#include "settings.h"

namespace {

// As `_Request` in ltlstm_kernels/plan.py, field by field.
struct Request {
  int64_t T, N, H, P, L, directions, training, trajectory;
  int64_t capability, sms, shared_per_block, registers_per_sm, clusters[5];
  int64_t blocks, columns, chunk;
  int64_t overlap;  // 0 or 1, or -1: the model chooses
};

template <class Value, size_t kCount>
Value named(const char* argument, const std::array<std::pair<const char*, Value>, kCount>& values,
            std::string_view name) {
  std::string known;
  for (const auto& [known_name, value] : values) {
    if (name == known_name) return value;
    known += (known.empty() ? "" : ", ") + std::string(known_name);
  }
  throw std::invalid_argument(std::string("plan: ") + argument + " must be one of " + known +
                              ", got '" + std::string(name) + "'");
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

int as_int(const char* name, int64_t value) {
  if (value < std::numeric_limits<int>::min() || value > std::numeric_limits<int>::max())
    throw std::invalid_argument(std::string("plan: ") + name + " must fit 32 bits, got " +
                                std::to_string(value));
  return static_cast<int>(value);
}

// One JSON object, field by field.
class Object {
 public:
  Object() { out_ << std::setprecision(std::numeric_limits<double>::max_digits10); }

  template <class Number>
  Object& number(const char* name, Number value) {
    key(name) << +value;
    return *this;
  }
  Object& truth(const char* name, bool value) { return raw(name, value ? "true" : "false"); }
  Object& raw(const char* name, const std::string& json) {
    key(name) << json;
    return *this;
  }
  Object& text(const char* name, const std::string& value) { return raw(name, quoted(value)); }

  static std::string quoted(const std::string& value) {
    std::ostringstream found;
    found << '"';
    for (const unsigned char c : value) {
      if (c < ' ') {
        found << "\\u00" << std::hex << std::setw(2) << std::setfill('0') << int(c);
      } else {
        found << (c == '"' || c == '\\' ? "\\" : "") << c;
      }
    }
    found << '"';
    return found.str();
  }
  std::string str() const { return out_.str() + '}'; }

 private:
  std::ostream& key(const char* name) {
    out_ << (empty_ ? "{" : ", ") << '"' << name << "\": ";
    empty_ = false;
    return out_;
  }
  std::ostringstream out_;
  bool empty_ = true;
};

std::string json(const ltlstm::TimeLoop& loop) {
  return Object()
      .text("regime", ltlstm::regime_name(loop.regime))
      .number("units", loop.units)
      .number("blocks", loop.blocks)
      .number("groups", loop.groups)
      .number("passes", loop.passes)
      .number("columns", loop.columns)
      .number("k_splits", loop.k_splits)
      .number("warps", loop.warps)
      .number("threads", loop.threads)
      .number("max_threads", loop.max_threads)
      .number("projected", loop.projected)
      .number("held", loop.held)
      .number("registers", loop.registers)
      .number("shared_bytes", loop.shared_bytes)
      .number("us", loop.us)
      .str();
}

std::string json(const ltlstm::Lanes& lanes) {
  return Object()
      .truth("overlap", lanes.overlap)
      .number("at_once", lanes.at_once)
      .number("time_sms", lanes.time_sms)
      .number("layer_sms", lanes.layer_sms)
      .number("chunk", lanes.chunk)
      .number("us", lanes.us)
      .number("other_us", lanes.other_us)
      .str();
}

std::string plan(const Request& r, const char* dtype, const char* regimes) {
  const ltlstm::PlanProblem problem{r.T,
                                    r.N,
                                    r.H,
                                    r.P,
                                    r.L,
                                    as_int("directions", r.directions),
                                    named("dtype", kDtypes, dtype),
                                    r.training != 0,
                                    r.P != r.H,
                                    r.trajectory != 0};
  ltlstm::DeviceFacts device{as_int("capability", r.capability),
                             as_int("sms", r.sms),
                             as_int("shared_per_block", r.shared_per_block),
                             as_int("registers_per_sm", r.registers_per_sm),
                             {}};
  std::transform(std::begin(r.clusters), std::end(r.clusters), device.clusters,
                 [](int64_t count) { return as_int("clusters", count); });
  ltlstm::Wanted wanted;
  wanted.blocks = as_int("blocks", r.blocks);
  wanted.columns = as_int("columns", r.columns);
  wanted.chunk = r.chunk;
  if (r.overlap >= 0) wanted.overlap = r.overlap != 0;
  std::istringstream words(regimes);
  for (std::string word; words >> word;) wanted.regimes.push_back(named("regimes", kRegimes, word));
  const ltlstm::Plan found = ltlstm::make_plan(problem, device, wanted);
  return Object()
      .raw("forward", json(found.forward))
      .raw("backward", json(found.backward))
      .raw("lanes", json(found.lanes))
      .text("reason", found.reason)
      .str();
}

std::string settings() {
  const ltlstm::Wanted wanted = ltlstm::wanted_by_environment();
  std::string regimes;
  for (const ltlstm::Regime regime : wanted.regimes)
    regimes += (regimes.empty() ? "" : ", ") + Object::quoted(ltlstm::regime_name(regime));
  return Object()
      .truth("recompute", ltlstm::recompute_by_environment())
      .raw("regimes", '[' + regimes + ']')
      .number("chunk", wanted.chunk)
      .str();
}

// The answer stays until this thread asks again.
template <class Answer>
const char* told(Answer&& answer) {
  static thread_local std::string text;
  try {
    text = answer();
  } catch (const std::exception& error) {
    text = Object().text("error", error.what()).str();
  }
  return text.c_str();
}

}  // namespace

#define LTLSTM_EXPORT extern "C" __attribute__((visibility("default")))

// dtype: as torch names it; regimes: their names, with spaces between, none for all.
LTLSTM_EXPORT const char* ltlstm_plan(const Request* request, const char* dtype,
                                      const char* regimes) {
  return told([=] { return plan(*request, dtype, regimes); });
}

// Resident clusters of 1, 2, 4, 8, 16 blocks, where there is no driver to ask.
LTLSTM_EXPORT void ltlstm_assumed_clusters(int capability, int sms, int* clusters) {
  ltlstm::DeviceFacts facts{};
  facts.capability = capability;
  facts.sms = sms;
  ltlstm::assume_clusters(facts);
  std::copy(std::begin(facts.clusters), std::end(facts.clusters), clusters);
}

// What the environment asks of the CUDA operators.
LTLSTM_EXPORT const char* ltlstm_cuda_settings() { return told(settings); }
