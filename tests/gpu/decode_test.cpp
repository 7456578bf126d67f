// A tiny random Llama decodes 64 tokens inside a captured graph, for full attention and for flows, and agrees with
// double precision. Without a GPU the same host code runs on the null device, and the rest says why it is passed over.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <cstdio>
#include <cstring>
#include <random>
#include <set>

#include "device/null/null_device.h"
#include "gpu/engine_run.h"
#include "gpu/llama_walk.h"
#include "gpu/open.h"
#include "gpu/reference.h"
#include "support/flows.h"
#include "support/random_llama.h"

namespace vortex::gpu_tests {
namespace {

using vortex::testing::NamedFlow;

// Bounds: float32 sums against double, and bf16 roundings of K, V and summaries that fall the other way.
constexpr double kLogitBound = 0.02;  // of logits of size up to 5
constexpr double kTokenBound = 2 * kLogitBound;
constexpr int kDecodeTokens = 64;
constexpr double kListBound = 5e-3;  // of the largest score of the row

struct Setting {
  testing::RandomLlama model;
  std::vector<std::vector<int>> prompts;
};

Setting make_setting(const std::vector<int>& lengths = {300, 41, 160, 257}) {
  models::ModelConfig config = testing::tiny_llama_config();
  Setting out{testing::random_llama(config, 11, kernels::WeightFormat::f32), {}};
  std::mt19937_64 random(5);
  for (const int length : lengths) {
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
  EXPECT_EQ(replays, 300 + kDecodeTokens);
}

void print_measured(const std::string& title, const Agreement& a, const WalkResult& result) {
  std::printf(
      "MEASURED %s: %d of %d tokens as in double precision (worst gap %.2g), logits within %.2g of %.3g (prompt %.2g), "
      "%lld of %lld "
      "lists equal (worst gap %.2g of the largest score); graph of %lld nodes, %.3f ms a step, %s\n",
      title.c_str(), a.tokens - a.tokens_different, a.tokens, a.worst_token_gap, a.worst_logit, a.largest_logit,
      a.worst_prompt_logit, static_cast<long long>(a.lists - a.lists_different), static_cast<long long>(a.lists),
      a.worst_list_gap, static_cast<long long>(result.graph_nodes), result.milliseconds_per_step,
      result.device.c_str());
}

void expect_agrees(const Agreement& agreement) {
  EXPECT_EQ(agreement.failure, "");
  EXPECT_LE(agreement.worst_logit, kLogitBound);
  EXPECT_LE(agreement.worst_prompt_logit, kLogitBound);
  EXPECT_LE(agreement.worst_token_gap, kTokenBound);
  EXPECT_LE(agreement.worst_list_gap, kListBound);
}

void expect_same_bits(const WalkResult& a, const WalkResult& b) {
  EXPECT_EQ(a.tokens, b.tokens);
  ASSERT_EQ(a.logits.size(), b.logits.size());
  EXPECT_EQ(std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)), 0);
}

void expect_agrees_with_engine(const std::string& title, const Setting& setting,
                               const std::optional<ir::Program>& program, const WalkResult& result) {
  const WalkResult engine =
      run_on_engine(setting.model.config, setting.model.weights, program, setting.prompts, kDecodeTokens);
  const Parting parting = compare_runs(setting.prompts, engine, result);
  std::printf(
      "MEASURED %s against the CPU engine: %d tokens compared, %d of %zu sequences part (gap %.2g), logits within "
      "%.2g, "
      "%lld of %lld lists equal\n",
      title.c_str(), parting.tokens, parting.sequences, setting.prompts.size(), parting.worst_token_gap,
      parting.worst_logit, static_cast<long long>(parting.lists - parting.lists_different),
      static_cast<long long>(parting.lists));
  expect_agrees(compare(setting.model.config, setting.model.weights, program, setting.prompts, engine));
  EXPECT_LE(parting.worst_token_gap, kTokenBound);
  EXPECT_LE(parting.lists_different, parting.lists / 50);
  if (parting.lists_different == 0) {  // else what follows a near tie differs; double precision judged both lists
    EXPECT_LE(parting.worst_logit, kLogitBound);
  }
}

// The CPU engine in the device's place: what the bounds say of it, and that the comparison works, without a GPU.
TEST_P(Decode, TheEngineAgreesWithDoublePrecision) {
  const Setting setting = make_setting();
  const ir::Program program = program_of(GetParam().flow, GetParam().config);
  const WalkResult result =
      run_on_engine(setting.model.config, setting.model.weights, program, setting.prompts, kDecodeTokens);
  const Agreement agreement = compare(setting.model.config, setting.model.weights, program, setting.prompts, result);
  print_measured(GetParam().title + " on the CPU", agreement, result);
  expect_agrees(agreement);
  EXPECT_GT(agreement.tokens, 32);
  EXPECT_GT(agreement.lists, 0);
}

TEST_P(Decode, AgreesWithDoublePrecision) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Setting setting = make_setting();
  const models::ModelConfig& config = setting.model.config;
  const ir::Program program = program_of(GetParam().flow, GetParam().config);
  const compiler::Plan plan = plan_of(program, config);
  const WalkResult result = walk(device, config, setting.model.weights, plan, setting.prompts, {});
  const Agreement agreement = compare(config, setting.model.weights, program, setting.prompts, result);
  print_measured(GetParam().title, agreement, result);
  expect_agrees(agreement);
  EXPECT_GE(agreement.tokens, kDecodeTokens * 4);
  EXPECT_GT(agreement.lists, 0);
  EXPECT_GT(std::set<int>(result.tokens.end() - 64 * result.sequences, result.tokens.end()).size(), 20u);
  expect_agrees_with_engine(GetParam().title, setting, program, result);

  // The same again, on other physical pages, with the kernels from the cache.
  const WalkResult again = walk(device, config, setting.model.weights, plan, setting.prompts, {.seed = 2});
  expect_same_bits(again, result);
  EXPECT_TRUE(again.flow_build.from_cache) << again.flow_build.note;
  std::printf("MEASURED %s: kernels ready in %.1f ms (%s), again in %.1f ms\n", GetParam().title.c_str(),
              result.flow_build.milliseconds, result.flow_build.from_cache ? "cached" : "compiled",
              again.flow_build.milliseconds);
}

INSTANTIATE_TEST_SUITE_P(Flows, Decode, ::testing::ValuesIn(cases()),
                         [](const auto& chosen) { return chosen.param.title; });

TEST(DecodeFull, AgreesAndABudgetThatCoversIsTheSameBits) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Setting setting = make_setting();
  const models::ModelConfig& config = setting.model.config;
  const WalkResult full = walk(device, config, setting.model.weights, std::nullopt, setting.prompts, {});
  const Agreement agreement = compare(config, setting.model.weights, std::nullopt, setting.prompts, full);
  print_measured("full attention", agreement, full);
  expect_agrees(agreement);
  expect_agrees_with_engine("full attention", setting, std::nullopt, full);

  const ir::Program covering = program_of(testing::quest_flow(), "budget=1000");
  expect_same_bits(walk(device, config, setting.model.weights, plan_of(covering, config), setting.prompts, {}), full);
}

TEST(Memory, TheErrorSaysHowMuchIsFree) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  try {
    device->allocate(std::int64_t{1} << 50);
    FAIL();
  } catch (const MachineError& error) {
    const std::string text = error.what();
    EXPECT_TRUE(text.starts_with("[device cuda] 1125899906842624 bytes of device memory were required; ")) << text;
    EXPECT_TRUE(text.ends_with(" are free; use a smaller pool or a smaller model")) << text;
  }
  EXPECT_EQ(device->allocated_bytes(), 0);
}

// Few and short steps: what compute-sanitizer can follow. It also shows that the comparison sees what it should.
TEST(DecodeShort, AgreesAndTheComparisonSeesWrongListsAndTokens) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Setting setting = make_setting({70, 65});
  const models::ModelConfig& config = setting.model.config;
  const ir::Program program = program_of(testing::quest_flow(), "budget=4");
  const WalkResult result = walk(device, config, setting.model.weights, plan_of(program, config), setting.prompts,
                                 {.page_size = 16, .decode_tokens = 16, .seed = 3});
  const auto judge = [&](const WalkResult& changed) {
    return compare(config, setting.model.weights, program, setting.prompts, changed);
  };
  expect_agrees(judge(result));

  WalkResult other_token = result;
  other_token.tokens[static_cast<std::size_t>(80 * result.sequences)] ^= 1;
  EXPECT_GT(judge(other_token).worst_token_gap, kTokenBound);

  WalkResult other_page = result;  // row 0 of the first layer at position 75: the chosen page becomes another candidate
  const std::vector<std::int64_t> listed = result.list(75, 0, 0);
  ASSERT_EQ(listed.size(), 4u);
  const std::size_t at = static_cast<std::size_t>(75 * result.layers * result.sequences * result.kv_heads);
  other_page.lists[at * static_cast<std::size_t>(result.list_stride) + 1] = listed[1] == 1 ? 2 : 1;
  const Agreement seen = judge(other_page);
  EXPECT_GE(seen.lists_different, 1);
  EXPECT_GT(seen.worst_list_gap, kListBound);
}

}  // namespace
}  // namespace vortex::gpu_tests
