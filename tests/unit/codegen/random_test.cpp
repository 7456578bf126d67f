// Random programs on the CPU backend, against the interpreter. A program may magnify rounding without bound (a
// difference of nearly equal numbers, a comparison at a tie), so its own sensitivity sets the bound: the interpreter
// runs again with queries and summaries moved by float32's rounding. Programs that overflow float32 are counted and
// skipped.
#include <gtest/gtest.h>

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

// A hash of a computed number has no bound at all, and whether two numbers are equal hangs on the last bit of a
// computed one.
bool hangs_on_last_bits(const ir::Program& program) {
  for (const ir::Node& node : program.nodes)
    for (ir::ValueId input : node.inputs)
      if ((node.op->name == "random" || node.op->name == "equal") && program.node(input).op->kind != ir::OpKind::source)
        return true;
  return false;
}

class RandomFlows : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Quick, RandomFlows, ::testing::Values(150));
INSTANTIATE_TEST_SUITE_P(Slow, RandomFlows, ::testing::Values(2000));
INSTANTIATE_TEST_SUITE_P(Long, RandomFlows, ::testing::ValuesIn(ir::long_run()));

TEST_P(RandomFlows, EqualTheInterpreterWithinTheirSensitivity) {
  int compared = 0, overflowed = 0, chaotic = 0;
  for (int i = 0; i < GetParam(); ++i) {
    ir::Program program = ir::RandomProgram(static_cast<std::uint64_t>(i), 2 + i % 24).program();
    program.config.summary_dtype = i % 2 == 0 ? ir::DType::bf16 : ir::DType::f32;
    auto flow = CpuFlow::build(
        compiler::compile(program, ir::kSmall, {.disabled_passes = {}, .keep_text = false, .verify_each = true}));
    const ir::Program& compiled = flow->plan().program;
    Harness harness(flow, 35, static_cast<unsigned>(i));
    const std::vector<float> came = scores(harness);
    const std::vector<float> cut = scores(harness, 9);
    for (std::size_t p = 0; p < came.size(); ++p)
      ASSERT_TRUE(std::bit_cast<std::uint32_t>(cut[p]) == std::bit_cast<std::uint32_t>(came[p]) || std::isnan(cut[p]))
          << "chunks change seed " << i << "\n"
          << ir::print(program);
    const std::vector<double> expected = reference(harness, compiled);
    ASSERT_EQ(came.size(), expected.size());
    double size = 0;
    bool finite = true;
    for (std::size_t p = 0; p < came.size(); ++p) {
      finite = finite && std::isfinite(came[p]) && std::isfinite(expected[p]);
      size = std::max(size, std::abs(expected[p]));
    }
    if (!finite) {
      ++overflowed;
      continue;
    }
    double moved = sensitivity(harness, compiled, 1e-6, static_cast<unsigned>(i), 4);
    if (!(moved <= 1e-2 * size) || hangs_on_last_bits(compiled)) {
      ++chaotic;
      continue;
    }
    ++compared;
    const double error = largest_difference({came.begin(), came.end()}, expected);
    // Four attempts can miss what one value in many feels: look closer before judging.
    if (!(error <= 20 * moved + 1e-5 * size))
      moved = sensitivity(harness, compiled, 1e-6, static_cast<unsigned>(i), 400);
    ASSERT_LE(error, 20 * moved + 1e-5 * size + 1e-30) << "seed " << i << "\n"
                                                       << ir::print(program) << print(flow->plan());
  }
  RecordProperty("compared", compared);
  RecordProperty("overflowed", overflowed);
  RecordProperty("chaotic", chaotic);
  EXPECT_GT(compared, GetParam() / 2) << overflowed << " overflowed, " << chaotic << " were chaotic";
}

}  // namespace
}  // namespace vortex::codegen
