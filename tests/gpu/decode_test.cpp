// A tiny random Llama decodes 64 tokens inside a captured graph, for full attention and for flows, and agrees with
// double precision. Without a GPU the same host code runs on the null device, and the rest says why it is passed over.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <cstdio>
#include <cstring>
#include <random>

#include "device/null/null_device.h"
#include "gpu/llama_walk.h"
#include "gpu/reference.h"
#include "support/flows.h"
#include "support/random_llama.h"

namespace vortex::gpu_tests {
namespace {

using vortex::testing::NamedFlow;

// Bounds: float32 sums against double, and bf16 roundings of K, V and summaries that fall the other way.
constexpr double kLogitBound = 0.02;  // of logits of size 1 to 6
constexpr double kTokenBound = 2 * kLogitBound;
constexpr double kListBound = 5e-3;  // of the largest score of the row

struct Setting {
  testing::RandomLlama model;
  std::vector<std::vector<int>> prompts;
};

Setting make_setting() {
  models::ModelConfig config = testing::tiny_llama_config();
  Setting out{testing::random_llama(config, 11, kernels::WeightFormat::f32), {}};
  std::mt19937_64 random(5);
  for (const int length : {300, 41, 160, 257}) {
    out.prompts.emplace_back();
    for (int i = 0; i < length; ++i)
      out.prompts.back().push_back(static_cast<int>(random() % static_cast<std::uint64_t>(config.vocabulary)));
  }
  return out;
}

ir::Program program_of(const NamedFlow& flow, const std::string& config) {
  ir::Program program = ir::parse(flow.text(config));
  ir::verify(program);
  return program;
}

compiler::Plan plan_of(const ir::Program& program, const models::ModelConfig& config) {
  return compiler::compile(program, {program.config.page_size, config.head_dim, config.heads / config.kv_heads});
}

std::shared_ptr<device::Device> gpu(std::string& missing) {
  static std::string reason;
  static const std::shared_ptr<device::Device> opened = []() -> std::shared_ptr<device::Device> {
    try {
      return device::open(device::Kind::cuda);
    } catch (const MachineError& error) {
      reason = error.what();
      return nullptr;
    }
  }();
  missing = reason;
  return opened;
}

struct Case {
  std::string title;
  NamedFlow flow;
  std::string config;
};

std::vector<Case> cases() {
  return {{"centroid", testing::centroid_flow(), "budget=8"},
          {"quest", testing::quest_flow(), "budget=8"},
          {"mean_deviation", testing::mean_deviation_flow(), "budget=8"},
          {"centroid_page32", testing::centroid_flow(), "budget=5 page_size=32 sinks=2 recent=1"},
          {"quest_full_layer", testing::quest_flow(), "budget_ratio=0.4 full_attention_layers=1 summary_dtype=f32"},
          {"everything", testing::everything_flow(), "budget=8"}};
}

class Decode : public ::testing::TestWithParam<Case> {};

// Everything the host does for a captured step, without hardware: sizes of launches and copies are checked by the
// device.
TEST_P(Decode, PlansOnTheNullDevice) {
  const Setting setting = make_setting();
  const ir::Program program = program_of(GetParam().flow, GetParam().config);
  const auto device = std::dynamic_pointer_cast<device::NullDevice>(device::open(device::Kind::null));
  const WalkResult result = walk(device, setting.model.config, setting.model.weights,
                                 plan_of(program, setting.model.config), setting.prompts, {});
  EXPECT_EQ(device->allocated_bytes(), 0);  // nothing leaks
  std::int64_t captured = 0, replays = 0;
  for (const std::string& line : device->log()) {
    replays += line.starts_with("graph of ");
    if (!line.starts_with("captured ")) continue;
    ++captured;
    EXPECT_TRUE(line.starts_with("captured kernel ")) << line;  // no copy inside a step
  }
  EXPECT_EQ(captured, result.graph_nodes);
  EXPECT_EQ(replays, 300 + 64);
}

TEST_P(Decode, AgreesWithDoublePrecision) {
  std::string missing;
  const auto device = gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Setting setting = make_setting();
  const ir::Program program = program_of(GetParam().flow, GetParam().config);
  const compiler::Plan plan = plan_of(program, setting.model.config);
  const WalkResult result = walk(device, setting.model.config, setting.model.weights, plan, setting.prompts, {});
  const Agreement agreement = compare(setting.model.config, setting.model.weights, program, setting.prompts, result);
  std::printf(
      "MEASURED %s: %d of %d tokens as the reference (worst gap %.2g), logits within %.2g of %.3g, %lld of %lld lists "
      "equal (worst gap "
      "%.2g of the largest score), graph of %lld nodes, %.3f ms a step, %s\n",
      GetParam().title.c_str(), agreement.tokens - agreement.tokens_different, agreement.tokens,
      agreement.worst_token_gap, agreement.worst_logit, agreement.largest_logit,
      static_cast<long long>(agreement.lists - agreement.lists_different), static_cast<long long>(agreement.lists),
      agreement.worst_list_gap, static_cast<long long>(result.graph_nodes), result.milliseconds_per_step,
      result.device.c_str());
  EXPECT_EQ(agreement.failure, "");
  EXPECT_GE(agreement.tokens, 64 * 4);
  EXPECT_GT(agreement.lists, 0);
  EXPECT_LE(agreement.worst_logit, kLogitBound);
  EXPECT_LE(agreement.worst_token_gap, kTokenBound);
  EXPECT_LE(agreement.worst_list_gap, kListBound);

  // The same again, on other physical pages: the same bits.
  const WalkResult again =
      walk(device, setting.model.config, setting.model.weights, plan, setting.prompts, {.seed = 2});
  EXPECT_EQ(again.tokens, result.tokens);
  EXPECT_EQ(again.counts, result.counts);
  EXPECT_EQ(std::memcmp(again.logits.data(), result.logits.data(), result.logits.size() * sizeof(float)), 0);
}

INSTANTIATE_TEST_SUITE_P(Flows, Decode, ::testing::ValuesIn(cases()),
                         [](const auto& chosen) { return chosen.param.title; });

TEST(DecodeFull, AgreesAndABudgetThatCoversIsTheSameBits) {
  std::string missing;
  const auto device = gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Setting setting = make_setting();
  const WalkResult full = walk(device, setting.model.config, setting.model.weights, std::nullopt, setting.prompts, {});
  const Agreement agreement = compare(setting.model.config, setting.model.weights, std::nullopt, setting.prompts, full);
  std::printf(
      "MEASURED full attention: %d of %d tokens as the reference (worst gap %.2g), logits within %.2g of %.3g, graph "
      "of %lld nodes, "
      "%.3f ms a step, %s\n",
      agreement.tokens - agreement.tokens_different, agreement.tokens, agreement.worst_token_gap, agreement.worst_logit,
      agreement.largest_logit, static_cast<long long>(full.graph_nodes), full.milliseconds_per_step,
      full.device.c_str());
  EXPECT_EQ(agreement.failure, "");
  EXPECT_LE(agreement.worst_logit, kLogitBound);
  EXPECT_LE(agreement.worst_token_gap, kTokenBound);

  const ir::Program covering = program_of(testing::quest_flow(), "budget=1000");
  const WalkResult covered = walk(device, setting.model.config, setting.model.weights,
                                  plan_of(covering, setting.model.config), setting.prompts, {});
  EXPECT_EQ(covered.tokens, full.tokens);
  EXPECT_EQ(std::memcmp(covered.logits.data(), full.logits.data(), full.logits.size() * sizeof(float)), 0);
}

}  // namespace
}  // namespace vortex::gpu_tests
