// The engine over real architectures with random weights in the formats of weight files.
#include <gtest/gtest.h>

#include "engine/workbench.h"
#include "support/random_llama.h"
#include "tiny.h"

namespace vortex::engine {
namespace {

using Tokens = std::vector<std::int32_t>;

struct Case {
  models::ModelConfig config;
  kernels::WeightFormat format;
  attention::KvType kv_type = attention::KvType::bfloat16;
};

struct Llama {
  explicit Llama(const Case& of) : weights(testing::random_llama(of.config, 17, of.format)), pool(1) {
    model = models::make_model(weights.config, weights.weights, pool);
  }
  testing::RandomLlama weights;
  ThreadPool pool;
  std::shared_ptr<models::Model> model;
};

class LlamaEngine : public ::testing::TestWithParam<Case> {};

TEST_P(LlamaEngine, AnswersDoNotDependOnTheBatchChunksOrThreads) {
  Llama llama(GetParam());
  ir::Program flow = centroid_flow(4, 16);
  auto run = [&](std::vector<std::size_t> which, std::int64_t chunk, int threads) {
    EngineConfig config{
        .pages = 256, .memory_bytes = 64 << 20, .max_batch = 4, .chunk_tokens = chunk, .threads = threads};
    config.prefix_cache = false;
    config.kv_type = GetParam().kv_type;
    Engine engine(llama.model, config);
    int id = engine.load_flow(flow);
    std::vector<std::int64_t> ids;
    for (std::size_t i : which) {
      Request request;
      request.prompt = random_tokens(20 + 70 * static_cast<std::int64_t>(i), i);
      request.max_new_tokens = 24;
      request.flow = i == 1 ? kFullAttention : id;
      if (i == 2) request.sampling = {.temperature = 1.0f, .seed = 5};
      ids.push_back(engine.submit(request));
    }
    Answers answers = run_all(engine);
    std::vector<Answer> out;
    for (std::int64_t it : ids) out.push_back(answers[it]);
    return out;
  };
  std::vector<Answer> together = run({0, 1, 2, 3}, 512, 1);
  EXPECT_EQ(run({0, 1, 2, 3}, 37, 2), together);
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(run({i}, 16, 1)[0], together[i]) << "request " << i;
}

TEST_P(LlamaEngine, ACoveringBudgetIsFullAttentionBitForBit) {
  Llama llama(GetParam());
  Workbench bench(llama.model, {.pages = 128, .memory_bytes = 64 << 20, .threads = 2, .kv_type = GetParam().kv_type});
  Workbench::Sequence base = bench.prefill(random_tokens(203, 3));
  for (std::int64_t page_size : {16, 32, 64}) {
    std::vector<Workbench::Sequence> arms = {bench.fork(base, kFullAttention),
                                             bench.fork(base, bench.load_flow(centroid_flow(100, page_size)))};
    for (std::int32_t token : random_tokens(40, 4)) {
      std::span<const float> logits = bench.decode(arms, Tokens{token, token});
      ASSERT_TRUE(std::equal(logits.begin(), logits.begin() + 160, logits.begin() + 160)) << "page_size " << page_size;
    }
    for (Workbench::Sequence arm : arms) bench.release(arm);
  }
}

TEST_P(LlamaEngine, LogitsAgreeWithAttentionInDoublePrecision) {
  Llama llama(GetParam());
  Workbench bench(
      llama.model,
      {.pages = 128, .memory_bytes = 64 << 20, .chunk_tokens = 50, .threads = 1, .kv_type = GetParam().kv_type});
  Tokens prompt = random_tokens(150, 3), forced = random_tokens(20, 4), all = prompt;
  all.insert(all.end(), forced.begin(), forced.end());
  Tokens positions, rows;
  for (std::int32_t i = 0; i < 170; ++i) positions.push_back(i);
  for (std::int32_t i = 149; i < 170; ++i) rows.push_back(i);
  std::vector<float> expected(21 * 160);
  testing::DenseAttention dense(llama.weights.config);
  dense.begin_step(170);
  llama.model->step({.tokens = 170,
                     .token_ids = all.data(),
                     .positions = positions.data(),
                     .logit_rows = 21,
                     .logit_tokens = rows.data(),
                     .logits = expected.data()},
                    dense, llama.pool);
  std::vector<float> got(160);
  std::vector<Workbench::Sequence> sequence = {bench.prefill(prompt, got.data())};
  for (std::int32_t token : forced) {
    std::span<const float> logits = bench.decode(sequence, Tokens{token});
    got.insert(got.end(), logits.begin(), logits.end());
  }
  double square = 0.0, worst = 0.0;
  for (float x : expected) square += static_cast<double>(x) * static_cast<double>(x);
  for (std::size_t i = 0; i < expected.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
  double deviation = std::sqrt(square / static_cast<double>(expected.size()));
  // K and V are stored in bf16, or with one of 255 values; with integer weights a rounding of activations may fall the
  // other way.
  const double stored = GetParam().kv_type == attention::KvType::int8 ? 0.08 : 0.02;
  EXPECT_LT(worst / deviation, GetParam().format == kernels::WeightFormat::f32 ? stored : 0.15);
}

INSTANTIATE_TEST_SUITE_P(
    Models, LlamaEngine,
    ::testing::Values(Case{testing::tiny_llama_config(), kernels::WeightFormat::f32},
                      Case{testing::tiny_llama_config(), kernels::WeightFormat::q8_0},
                      Case{testing::tiny_llama_config(), kernels::WeightFormat::q4_1},
                      Case{testing::tiny_latent_config(), kernels::WeightFormat::f32},
                      Case{testing::tiny_latent_config(), kernels::WeightFormat::q8_0},
                      Case{testing::tiny_llama_config(), kernels::WeightFormat::f32, attention::KvType::int8},
                      Case{testing::tiny_latent_config(), kernels::WeightFormat::f32, attention::KvType::int8}),
    [](const auto& chosen) {
      return chosen.param.config.architecture + "_" + kernels::name_of(chosen.param.format) + "_kv_" +
             attention::name_of(chosen.param.kv_type);
    });

}  // namespace
}  // namespace vortex::engine
