// How long each op takes on the CPU in each of its places: the cases that the tests compare with the interpreter, one
// row of 466 candidates, 16 tokens a page, 64 channels, 3 query heads, one thread. The least of many runs, nanoseconds
// a candidate; a case's other ops (a dot for its logits, sums at the end) are in it. Ends with 1 where a score is not
// what the interpreter says.
//   bench_ops [OP...]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <set>
#include <string>

#include "unit/codegen/harness.h"
#include "unit/codegen/op_cases.h"

using namespace vortex;

int main(int argc, char** argv) {
  const std::set<std::string> wanted(argv + 1, argv + argc);
  constexpr std::int64_t kCandidates = 466;
  const ir::Geometry geometry{16, 64, 3};
  int wrong = 0;
  std::printf("%-64s %10s\n", "case", "ns a page");
  for (const codegen::OpCase& at : codegen::op_cases()) {
    if (!wanted.empty() && wanted.count(at.op) == 0) continue;
    const ir::Program program = codegen::with_numbers(at.program, geometry);
    auto flow = codegen::CpuFlow::build(
        compiler::compile(program, geometry, {.disabled_passes = {"canonicalize"}, .keep_text = false}));
    codegen::Harness harness(flow, kCandidates, 11);
    const double error = codegen::normalised_error(harness.scores(), harness.reference(program));
    if (!(error <= 2e-5)) {
      std::printf("%s: normalised error %g\n", at.name.c_str(), error);
      ++wrong;
    }
    double least = 1e9;
    for (int turn = 0; turn < 20; ++turn) {
      const auto began = std::chrono::steady_clock::now();
      harness.scores();
      least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    }
    std::printf("%-64s %10.1f\n", at.name.c_str(), 1e9 * least / (2 * kCandidates));  // a row and its twin
  }
  return wrong > 0;
}
