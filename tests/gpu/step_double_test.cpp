// The whole tuned step, embedding to sampled token, against double precision at the sizes of real models: two layers,
// 300 to 2,000 tokens, steps over the end of a page. Also that the comparison sees what it should.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "gpu/fast_step.h"
#include "gpu/open.h"
#include "gpu/step_reference.h"
#include "ir/program.h"
#include "support/flows.h"

namespace vortex::gpu_tests {
namespace {

// Sums in float32 against double: an operand falls on the other side of a rounding to bf16 and moves by 2^-8; what
// follows sees that and falls elsewhere, so that after two layers every operand has roundings of its own.
constexpr double kErrorBound = 6e-3;  // of all logits, normalised
constexpr double kLogitBound = 0.02;  // of a logit, as a share of the largest
constexpr double kListBound = 5e-3;   // of the largest score of the row: a page that is not the reference's
constexpr int kSteps = 8;

struct StepDoubleCase {
  const char* name;
  testing::NamedFlow (*flow)();  // null: full attention
  const char* config;
  int sequences, context;
  StepModel model;

  friend void PrintTo(const StepDoubleCase& c, std::ostream* out) { *out << c.name; }
};

StepModel qwen3() { return {.layers = 2, .vocabulary = 8192}; }
StepModel qwen2() {
  return {
      .layers = 2, .heads = 12, .kv_heads = 2, .width = 1536, .ffn_width = 8960, .vocabulary = 8192, .qk_norm = false};
}
StepModel llama3() {
  return {.layers = 2,
          .heads = 32,
          .kv_heads = 8,
          .head_dim = 64,
          .width = 2048,
          .ffn_width = 8192,
          .vocabulary = 8192,
          .qk_norm = false};
}

struct Followed {
  StepAgreement agreement;
  std::vector<int> tokens, lengths;  // input of the last step
  FastStep::Log last;
};

class StepDouble : public ::testing::TestWithParam<StepDoubleCase> {
 protected:
  void SetUp() override {
    std::string missing;
    device_ = open_gpu(missing);
    if (device_ == nullptr) GTEST_SKIP() << missing;
    if (device_->architecture() != "sm_90a")
      GTEST_SKIP() << "the weight-streaming linears are compiled for sm_90a devices only";
  }
  std::shared_ptr<device::Device> device_;
};

void expect_agrees(const StepAgreement& a) {
  EXPECT_EQ(a.failure, "");
  EXPECT_LE(std::sqrt(a.error / a.size), kErrorBound);
  EXPECT_LE(a.worst_logit, kLogitBound * a.largest_logit);
  EXPECT_LE(a.worst_token_gap, 2 * kLogitBound * a.largest_logit);
  EXPECT_LE(a.worst_list_gap, kListBound);
}

TEST_P(StepDouble, AgreesWithDoublePrecision) {
  const StepDoubleCase& c = GetParam();
  const int page_size = 16;
  std::optional<ir::Program> program;
  std::optional<compiler::Plan> plan;
  if (c.flow != nullptr) {
    program = ir::parse(c.flow().text(c.config));
    plan = compiler::compile(*program, {.page_size = program->config.page_size,
                                        .head_dim = c.model.head_dim,
                                        .group = c.model.group(),
                                        .value_dim = 0});
  }
  const StepPool pool(device_, c.model, page_size, static_cast<std::int64_t>(c.sequences) * (c.context + 128), 5);
  FastStep step(device_, pool, plan, {.sequences = c.sequences, .context = c.context, .stagger = 4});
  StepReference reference(step, pool, program);
  const auto graph = step.capture(static_cast<unsigned>(Part::all), true);
  std::vector<int> tokens, lengths;
  for (int i = 0; i < c.sequences; ++i) {
    tokens.push_back((i * 7919 + 13) % c.model.vocabulary);
    lengths.push_back(c.context + 1 + i % 4);
  }
  step.set_inputs(tokens, lengths);
  StepAgreement agreement;
  for (int i = 0; i < kSteps && agreement.failure.empty(); ++i) {
    step.time(*graph, 1);
    const FastStep::Log log = step.log();
    StepAgreement here;
    reference.follow(tokens, lengths, log, here);
    for (int& length : lengths) ++length;
    EXPECT_EQ(log.tokens, lengths);
    tokens = log.next;
    std::printf("      step %d: logits differ by %.2g, worst %.2g of %.3g; %lld of %lld lists differ, worst gap %.2g\n",
                i, std::sqrt(here.error / here.size), here.worst_logit, here.largest_logit,
                static_cast<long long>(here.lists_different), static_cast<long long>(here.lists), here.worst_list_gap);
    agreement.join(here);
  }
  std::printf(
      "MEASURED tuned step, %s: %d sequences of %d tokens, %d steps against double precision: logits differ by %.2g, "
      "worst %.2g of %.3g; %d of %d tokens (worst gap %.2g), %lld of %lld lists equal (worst gap %.2g of the largest "
      "score)\n",
      c.name, c.sequences, c.context, kSteps, std::sqrt(agreement.error / agreement.size), agreement.worst_logit,
      agreement.largest_logit, agreement.tokens - agreement.tokens_different, agreement.tokens,
      agreement.worst_token_gap, static_cast<long long>(agreement.lists - agreement.lists_different),
      static_cast<long long>(agreement.lists), agreement.worst_list_gap);
  expect_agrees(agreement);
  EXPECT_EQ(agreement.tokens, kSteps * c.sequences);
  EXPECT_EQ(agreement.lists, program ? kSteps * 2 * c.sequences * c.model.kv_heads : 0);
}

INSTANTIATE_TEST_SUITE_P(
    Models, StepDouble,
    ::testing::Values(
        StepDoubleCase{"qwen3_centroid", testing::centroid_flow, "budget=24", 4, 1996, qwen3()},
        StepDoubleCase{"qwen3_centroid_many_rows", testing::centroid_flow, "budget=16", 20, 604, qwen3()},
        StepDoubleCase{"qwen3_full", nullptr, "", 4, 300, qwen3()},
        StepDoubleCase{"qwen2_quest_page32", testing::quest_flow, "budget=12 page_size=32", 3, 1530, qwen2()},
        StepDoubleCase{"llama3_mean_deviation", testing::mean_deviation_flow, "budget=20", 9, 892, llama3()}),
    [](const auto& chosen) { return std::string(chosen.param.name); });

// A page, a token, a logit that are wrong are seen. Small and short: what compute-sanitizer can follow.
class StepDoubleShort : public StepDouble {};

TEST_P(StepDoubleShort, WrongListsTokensAndLogits) {
  const StepDoubleCase& c = GetParam();
  const ir::Program program = ir::parse(c.flow().text(c.config));
  const compiler::Plan plan = compiler::compile(
      program, {.page_size = 16, .head_dim = c.model.head_dim, .group = c.model.group(), .value_dim = 0});
  const StepPool pool(device_, c.model, 16, static_cast<std::int64_t>(c.sequences) * (c.context + 128), 5);
  FastStep step(device_, pool, plan, {.sequences = c.sequences, .context = c.context, .stagger = 4});
  const std::optional<ir::Program> followed = program;
  StepReference reference(step, pool, followed);
  const std::vector<int> tokens = {13, 14}, lengths = {c.context + 1, c.context + 2};
  step.set_inputs(tokens, lengths);
  step.time(*step.capture(static_cast<unsigned>(Part::all), true), 1);
  const FastStep::Log log = step.log();
  const auto judge = [&](const FastStep::Log& changed, const std::vector<int>& inputs) {
    StepAgreement out;
    reference.follow(inputs, lengths, changed, out);
    return out;
  };
  expect_agrees(judge(log, tokens));

  FastStep::Log other_logit = log;
  other_logit.logits[17] += 0.05f * static_cast<float>(judge(log, tokens).largest_logit);
  const StepAgreement logits = judge(other_logit, tokens);
  EXPECT_GT(logits.worst_logit, kLogitBound * logits.largest_logit);

  const StepAgreement token = judge(log, {tokens[0] + 1, tokens[1]});
  EXPECT_GT(std::sqrt(token.error / token.size), kErrorBound);

  FastStep::Log other_page = log;  // the last chosen page of row 0 becomes one that is not listed
  const int* const table = step.tables().data();
  int* const list = other_page.physical.data();
  const int pages = (log.listed[0] + 15) / 16;
  int spare = 1;
  while (std::find(list, list + pages, table[spare]) != list + pages) ++spare;
  list[1] = table[spare];
  std::sort(list, list + pages, [&](int a, int b) {
    return std::find(table, table + step.table_stride(), a) < std::find(table, table + step.table_stride(), b);
  });
  const StepAgreement lists = judge(other_page, tokens);
  EXPECT_GE(lists.lists_different, 1);
  EXPECT_GT(std::sqrt(lists.error / lists.size) + lists.worst_list_gap, kListBound);

  FastStep::Log foreign = log;
  foreign.physical[1] = step.tables()[static_cast<std::size_t>(step.table_stride())];  // of the other sequence
  EXPECT_NE(judge(foreign, tokens).failure, "");
}

INSTANTIATE_TEST_SUITE_P(
    Models, StepDoubleShort,
    ::testing::Values(StepDoubleCase{
        "small",
        testing::centroid_flow,
        "budget=8",
        2,
        700,
        {.layers = 2, .heads = 8, .kv_heads = 4, .head_dim = 64, .width = 512, .ffn_width = 1024, .vocabulary = 4096}}),
    [](const auto& chosen) { return std::string(chosen.param.name); });

}  // namespace
}  // namespace vortex::gpu_tests
