// SPDX-License-Identifier: Apache-2.0
// driver FIRST LAST [NAME]: runs each case in its two forms under each seed, each in a process of
// its own, and prints a line for it: name, form, seed, what was said, separated by tabs. Cases that
// share their right form share what was said of it.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "case.h"

unsigned* global_words;
float* global_floats;

namespace {

std::vector<char> answers;  // by thread: 0 none, 1 right, 2 wrong

bool is_host_code(const LaunchShape& shape) { return shape.threads.x == 0; }

// Ends the process: 0 if every thread was right.
[[noreturn]] void run(const Case& which, bool right_form, int seed) {
  setenv("EMULATOR_SEED", std::to_string(seed).c_str(), 1);
  global_words = static_cast<unsigned*>(calloc(kGlobals, sizeof(unsigned)));
  global_floats = static_cast<float*>(malloc(kGlobals * sizeof(float)));
  for (int k = 0; k < kGlobals; ++k) global_floats[k] = static_cast<float>(k + 1);
  const LaunchShape& shape = which.shape;
  const auto form = right_form ? which.right : which.wrong;
  if (is_host_code(shape)) {
    answers.assign(1, 0);
    form();
  } else {
    answers.assign(size_t{shape.blocks.x} * shape.threads.x, 0);
    launch(form, shape, nullptr);
    cudaDeviceSynchronize();
  }
  size_t wrong = 0;
  for (const char answer : answers) wrong += answer != 1;
  if (wrong > 0) fprintf(stderr, "wrong numbers: %zu of %zu threads\n", wrong, answers.size());
  exit(wrong > 0);  // not _exit: the streams look whether they are empty
}

std::string run_apart(const Case& which, bool right_form, int seed) {
  int ends[2];
  if (pipe(ends) != 0) abort();
  fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    run(which, right_form, seed);
  }
  close(ends[1]);
  std::string said;
  char buffer[4096];
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;) {
    said.append(buffer, static_cast<size_t>(got));
  }
  close(ends[0]);
  int status;
  waitpid(child, &status, 0);
  if (said.empty() && status != 0) return "no word, status " + std::to_string(status);
  std::replace(said.begin(), said.end(), '\n', '\v');  // one line
  return said.empty() ? "right" : said;
}

}  // namespace

void answer(bool right) {
  const size_t thread = answers.size() == 1 ? 0 : size_t{blockIdx.x} * blockDim.x + threadIdx.x;
  answers[thread] = answers[thread] == 0 && right ? 1 : 2;
}

int opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

int main(int argc, char** argv) {
  const int first = argc > 1 ? atoi(argv[1]) : 0, last = argc > 2 ? atoi(argv[2]) : first;
  const char* only = argc > 3 ? argv[3] : "";
  std::map<std::pair<void (*)(), int>, std::string> said;
  for (const auto& cases : {block_cases(), warp_cases(), copy_cases(), grid_cases(),
                            cluster_cases(), mbarrier_cases(), async_cases(), stream_cases()}) {
    for (const Case& which : cases) {
      if (strstr(which.name, only) == nullptr) continue;
      for (const bool right_form : {true, false}) {
        for (int seed = first; seed <= last; ++seed) {
          std::string& verdict = said[{right_form ? which.right : which.wrong, seed}];
          if (verdict.empty()) verdict = run_apart(which, right_form, seed);
          printf("%s\t%s\t%d\t%s\n", which.name, right_form ? "right" : "wrong", seed,
                 verdict.c_str());
        }
      }
    }
  }
}
