// SPDX-License-Identifier: Apache-2.0
// Runs the CPU kernels without torch, for a sanitizer to watch: odd sizes, every option, and every
// way in which threads may share the work, all of which must give the same bits.
#include <string_view>

#include "cell_rows.h"
#include "hidden_gate.h"
#include "progress.h"
#include "sparse.h"
#include "time_lane.h"

namespace ltlstm::sanitizers {
namespace {

// Repeats until the threads met: on a loaded machine one may come late.
template <class Run, class scalar>
void check_way(const Way& way, const Run& run, const Results<scalar>& expected,
               const std::string& what) {
  constexpr int kTries = 2000;
  bool met = false;
  for (int i = 0; i < kTries && !met; ++i) require_same(run(way, met), expected, what);
  require(met, what + ": the threads never met");
}

// `written` says which results of the forward pass must be whole.
template <class Lane>
void check_lane(const Lane& lane, bool saves, std::initializer_list<size_t> written) {
  bool met = false;
  const auto forward = [&](const Way& way, bool& met) { return lane.forward(way, met); };
  const auto saved = forward(alone(), met);
  for (size_t i : written) require_written(saved[i], 1, 1, lane.name() + ": forward");
  const auto backward = [&](const Way& way, bool& met) { return lane.backward(way, saved, met); };
  decltype(backward(alone(), met)) gradients;
  if (saves) gradients = backward(alone(), met);
  for (const auto& each : gradients) require_written(each, 1, 1, lane.name() + ": backward");
  for (const Way& way : ways_of_sharing()) {
    const std::string what = lane.name() + ", " + way.name;
    check_way(way, forward, saved, "forward, " + what);
    if (saves) check_way(way, backward, gradients, "backward, " + what);
  }
}

template <class scalar>
void check_time_lane(const Case& of) {
  check_lane(TimeLane<scalar>(of, 1), of.saves, {0, 1, 3, 4});
}

template <class scalar>
void check_hidden_gates(const GateCase& of) {
  check_lane(HiddenGates<scalar>(of, 1), of.saves, {});
}

// The option number `bit` of the combination `options`.
bool option(int options, int bit) { return options >> bit & 1; }

constexpr int kCombinations = 1 << 5;

Case case_of(int64_t N, int64_t H, int options) {
  const bool projected = option(options, 0), ragged = option(options, 2);
  return {ragged ? 4 : 3,
          N,
          H,
          projected ? std::max<int64_t>(1, H * 2 / 3) : H,
          projected,
          option(options, 1),
          ragged,
          option(options, 3),
          option(options, 4),
          /*in_place=*/options % 3 == 0,
          /*saves=*/options % 7 != 0,
          /*strided=*/options % 5 == 0};
}

// Both weights read as they are, with and without a bias, in vectors and in the rest of one.
template <class scalar>
void check_inputs() {
  int options = 0;
  for (int64_t H : {1, 65, 161})
    for (int64_t D : {1, 19})
      for (int64_t N : {1, 3}) {
        Case of = case_of(N, H, options);
        of.in_place = true;
        of.D = D;
        of.bias = option(options, 0) == option(options, 1);
        check_time_lane<scalar>(of);
        options = (options + 11) % kCombinations;
      }
}

void check_pairs() {
  int options = 0;
  for (int64_t H : {2, 66, 162})
    for (int64_t N : {1, 3, 17}) {
      Case of = case_of(N, H, options & ~1);  // without a projection
      of.in_place = false;
      of.bias = option(options, 0);
      of.pairs = true;
      check_time_lane<float>(of);
      options = (options + 11) % kCombinations;
    }
}

GateCase gate_case_of(int64_t N, int64_t H, int64_t K, int options) {
  const bool ragged = option(options, 0);
  return {ragged ? 4 : 3,
          N,
          H,
          K,
          1 + options % 3,
          /*bias=*/options % 4 != 1,
          option(options, 1),
          ragged,
          option(options, 2),
          option(options, 3),
          /*in_place=*/options % 5 == 0,
          /*saves=*/options % 7 != 0,
          /*compiled=*/false};
}

GateCase compiled_case_of(int64_t N, int64_t H, int64_t K, int options) {
  GateCase of = gate_case_of(N, H, K, options);
  of.saves = of.in_place = false;
  of.compiled = true;
  return of;
}

template <class scalar>
void check_time_lanes() {
  for (int options = 0; options < kCombinations; ++options)
    for (int64_t N : {1, 3}) check_time_lane<scalar>(case_of(N, 7, options));
  // Where a vector, a block or a tile of rows is not full, and where a gang has blocks to share.
  int options = 3;
  for (int64_t H : {1, 65, 161})
    for (int64_t N : {1, 3, 17})
      for (int i = 0; i < (H < 100 ? 3 : 1); ++i, options += 11)
        check_time_lane<scalar>(case_of(N, H, options % kCombinations));
}

template <class scalar>
void check_all_hidden_gates() {
  for (int options = 0; options < kCombinations; options += 3)
    for (int64_t N : {1, 3}) check_hidden_gates<scalar>(gate_case_of(N, 7, 5, options));
  check_hidden_gates<scalar>(gate_case_of(17, 65, 33, 11));
  for (int options : {1, 26}) check_hidden_gates<scalar>(gate_case_of(1, 161, 145, options));
  // Whole gates for each piece of a gang of 2 or 4.
  for (int options : {0, 13, 26}) check_hidden_gates<scalar>(gate_case_of(3, 35, 32, options));
  for (int options : {0, 7, 13}) check_hidden_gates<scalar>(compiled_case_of(3, 7, 5, options));
  for (int options : {4, 5}) check_hidden_gates<scalar>(compiled_case_of(3, 35, 32, options));
  check_hidden_gates<scalar>(compiled_case_of(1, 161, 145, 26));
}

template <class scalar>
void check_all_sparse() {
  for (int64_t columns : {1, 7, 33, 64})
    for (int64_t width : {1, 5, 33})
      for (int density : {0, 30})
        check_sparse<scalar>({width % 4 + 1, width, columns}, columns % 16, density);
}

template <class scalar>
void check_all_cell_rows() {
  for (int64_t H : {1, 7, 65})
    for (int64_t R : {1, 17})
      for (int flags = 0; flags < 16; ++flags)
        check_cell_rows<scalar>(R, H, option(flags, 0), option(flags, 1), option(flags, 2),
                                option(flags, 3));
}

struct Part {
  const char* name;
  void (*check)();
};

const Part kParts[] = {
    {"progress", check_progress},
    {"time_lane", check_time_lanes<float>},
    {"hidden_gate", check_all_hidden_gates<float>},
    {"sparse", check_all_sparse<float>},
    {"cell_rows", check_all_cell_rows<float>},
    {"inputs", check_inputs<float>},
    {"time_lane", check_time_lanes<double>},
    {"hidden_gate", check_all_hidden_gates<double>},
    {"sparse", check_all_sparse<double>},
    {"cell_rows", check_all_cell_rows<double>},
    {"inputs", check_inputs<double>},
    {"pairs", check_pairs},
};

}  // namespace
}  // namespace ltlstm::sanitizers

// All parts, or those of the name that is given.
int main(int count, char** arguments) {
  const std::string_view wanted = count > 1 ? arguments[1] : "";
  for (const auto& part : ltlstm::sanitizers::kParts)
    if (wanted.empty() || wanted == part.name) part.check();
  std::printf("%s\n", ltlstm::cpu::kernels<float>().isa);
}
