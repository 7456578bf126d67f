// Random programs on the CPU backend, against the interpreter. A program may magnify rounding without bound (a
// difference of nearly equal numbers, a comparison at a tie), so its own sensitivity sets the bound: the interpreter
// runs again with queries and summaries moved by float32's rounding. Programs whose values may overflow float32, or
// are not finite by their meaning, are counted and skipped.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>

#include "harness.h"
#include "unit/ir/random_program.h"

namespace vortex::codegen {
namespace {

// Scores, and after them the states of the next step.
std::vector<double> reference(const Harness& harness, const ir::Program& program) {
  std::vector<double> out = harness.reference(program);
  for (const auto& [name, state] : harness.reference_states(program)) out.insert(out.end(), state.begin(), state.end());
  return out;
}
std::vector<float> scores(const Harness& harness, std::int64_t chunk = 1 << 20) {
  std::vector<float> out = harness.scores(chunk);
  for (const auto& [name, state] : harness.last_states) out.insert(out.end(), state.begin(), state.end());
  return out;
}

double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    if (a[i] == b[i]) continue;
    const double difference = std::abs(a[i] - b[i]);
    most = std::max(most, std::isnan(difference) ? INFINITY : difference);
  }
  return most;
}

// Largest change of a score when every value feels rounding, or the inputs move by `step` of their size.
double sensitivity(const Harness& harness, const ir::Program& program, double step, unsigned seed,
                   std::uint32_t attempts) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(-1, 1);
  const std::vector<double> exact = reference(harness, program);
  double most = 0;
  for (std::uint32_t attempt = 0; attempt < attempts; ++attempt) {
    Harness rounded = harness;
    rounded.environment.rounding_seed = attempt + 1;
    most = std::max(most, largest_difference(exact, reference(rounded, program)));
    Harness moved = harness;
    for (double& x : moved.q.data) x *= 1 + step * uniform(random);
    for (auto& [name, tensor] : moved.summaries)
      for (double& x : tensor.data) x = x * (1 + step * uniform(random)) + step * 1e-3 * uniform(random);
    for (auto& [name, tensor] : moved.states)
      for (double& x : tensor.data) x *= 1 + step * uniform(random);
    most = std::max(most, largest_difference(exact, reference(moved, program)));
  }
  return most;
}

constexpr double kMayOverflow = 1e15;  // squares of such values, summed, come near the end of float32

enum class Outcome { compared, overflowed, chaotic, wrong };

// One program through the compiler and the CPU backend, whole and in chunks; `said` is what was wrong.
Outcome compare(const ir::Program& program, int seed, std::string& said) {
  auto flow = CpuFlow::build(
      compiler::compile(program, ir::kSmall, {.disabled_passes = {}, .keep_text = false, .verify_each = true}));
  const ir::Program& compiled = flow->plan().program;
  Harness harness(flow, 35, static_cast<unsigned>(seed));
  const std::vector<float> came = scores(harness);
  const std::vector<float> cut = scores(harness, 9);
  for (std::size_t p = 0; p < came.size(); ++p) {
    if (std::bit_cast<std::uint32_t>(cut[p]) == std::bit_cast<std::uint32_t>(came[p])) continue;
    if (std::isnan(cut[p]) && std::isnan(came[p])) continue;  // its sign and its bits mean nothing
    said = concat("chunks change number ", p, ": ", cut[p], " and whole ", came[p], "\n", ir::print(program));
    return Outcome::wrong;
  }
  double on_the_way = 0;
  harness.environment.largest = &on_the_way;
  const std::vector<double> expected = reference(harness, compiled);
  harness.environment.largest = nullptr;
  if (came.size() != expected.size()) {
    said = concat(came.size(), " numbers, the interpreter has ", expected.size(), "\n", ir::print(program));
    return Outcome::wrong;
  }
  double largest = 0;
  for (std::size_t p = 0; p < came.size(); ++p) {
    if (!std::isfinite(expected[p])) return Outcome::overflowed;
    largest = std::max(largest, std::abs(expected[p]));
    if (std::isfinite(came[p])) continue;
    // A number below the smallest normal one may be nothing, and what is divided by it infinite.
    if (on_the_way >= kMayOverflow ||
        !std::isfinite(sensitivity(harness, compiled, 1e-6, static_cast<unsigned>(seed), 400)))
      return Outcome::overflowed;
    said = concat("number ", p, " is ", came[p], " and should be ", expected[p], ", with values of at most ",
                  on_the_way, "\n", ir::print(program), print(flow->plan()));
    return Outcome::wrong;
  }
  double moved = sensitivity(harness, compiled, 1e-6, static_cast<unsigned>(seed), 4);
  if (!(moved <= 1e-2 * largest) || ir::hangs_on_last_bits(compiled)) return Outcome::chaotic;
  const double error = largest_difference({came.begin(), came.end()}, expected);
  // Four attempts can miss what one value in many feels: look closer before judging.
  if (!(error <= 20 * moved + 1e-5 * largest))
    moved = sensitivity(harness, compiled, 1e-6, static_cast<unsigned>(seed), 400);
  if (error <= 20 * moved + 1e-5 * largest + 1e-30) return Outcome::compared;
  said = concat("off by ", error, ", rounding moves it by ", moved, "\n", ir::print(program), print(flow->plan()));
  return Outcome::wrong;
}

Outcome compare(int seed, int size, std::string& said) {
  ir::Program program = ir::RandomProgram(static_cast<std::uint64_t>(seed), size).program();
  program.config.summary_dtype = seed % 2 == 0 ? ir::DType::bf16 : ir::DType::f32;
  try {
    return compare(program, seed, said);
  } catch (const std::exception& error) {
    said = concat(error.what(), "\n", ir::print(program));
    return Outcome::wrong;
  }
}

class RandomFlows : public ::testing::TestWithParam<ir::Seeds> {};
INSTANTIATE_TEST_SUITE_P(Quick, RandomFlows, ::testing::Values(ir::Seeds{0, 150, 150}));
INSTANTIATE_TEST_SUITE_P(Slow, RandomFlows, ::testing::Values(ir::Seeds{0, 2000, 2000}));
INSTANTIATE_TEST_SUITE_P(Long, RandomFlows, ::testing::ValuesIn(ir::long_run()));

// A program that fails is made smaller until it does not: what is shown is the smallest of its seed.
TEST_P(RandomFlows, EqualTheInterpreterWithinTheirSensitivity) {
  const ir::Seeds seeds = GetParam();
  std::map<Outcome, int> counts;
  for (int seed = seeds.first; seed < seeds.first + seeds.count; ++seed) {
    const int size = 2 + seed % 24;
    std::string said;
    const Outcome outcome = compare(seed, size, said);
    ++counts[outcome];
    for (int smaller = 1; outcome == Outcome::wrong && smaller <= size; ++smaller)
      ASSERT_NE(compare(seed, smaller, said), Outcome::wrong)
          << "seed " << seed << ", size " << smaller << ": " << said;
  }
  std::printf("%d compared, %d overflow float32, %d are chaotic\n", counts[Outcome::compared],
              counts[Outcome::overflowed], counts[Outcome::chaotic]);
  // More than half are compared; of few, chance may leave fewer: three standard deviations.
  EXPECT_GT(counts[Outcome::compared], 0.5 * seeds.count - 1.5 * std::sqrt(seeds.count));
}

}  // namespace
}  // namespace vortex::codegen
