// The model as the engine sees it: steps, wanted rows, and the words of its refusals. Its numbers are checked against
// the float64 reference in tests/python.
#include "models/model.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include <set>

#include "models/experts.h"
#include "support/random_llama.h"

namespace vortex::models {
namespace {

using kernels::WeightFormat;
using vortex::testing::DenseAttention;
using vortex::testing::random_llama;
using vortex::testing::RandomLlama;
using vortex::testing::tiny_experts_config;
using vortex::testing::tiny_llama_config;

// Logits of every token, the tokens given in chunks of the sizes named.
std::vector<float> run(Model& model, const std::vector<std::int32_t>& tokens, std::vector<std::int64_t> chunks,
                       int threads) {
  ThreadPool pool(threads);
  DenseAttention attention(model.config());
  const std::int64_t vocabulary = model.config().vocabulary;
  std::vector<float> logits(tokens.size() * vocabulary);
  std::int64_t done = 0;
  for (std::int64_t count : chunks) {
    std::vector<std::int32_t> positions(count), rows(count);
    for (std::int64_t i = 0; i < count; ++i)
      positions[i] = static_cast<std::int32_t>(done + i), rows[i] = static_cast<std::int32_t>(i);
    attention.begin_step(count);
    model.step({.tokens = count,
                .token_ids = tokens.data() + done,
                .positions = positions.data(),
                .logit_rows = count,
                .logit_tokens = rows.data(),
                .logits = logits.data() + done * vocabulary},
               attention, pool);
    done += count;
  }
  return logits;
}

TEST(Llama, ChunksAndThreadsDoNotChangeABit) {
  for (WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::q8_0, WeightFormat::q4_1}) {
    for (bool tied : {true, false}) {
      ModelConfig config = tiny_llama_config();
      config.tied_embeddings = tied;
      RandomLlama weights = random_llama(config, 7, format);
      ThreadPool pool(1);
      std::unique_ptr<Model> model = make_model(config, weights.weights, pool);
      std::vector<std::int32_t> tokens;
      for (int i = 0; i < 23; ++i) tokens.push_back(i * 37 % 160);
      std::vector<float> whole = run(*model, tokens, {23}, 1);
      EXPECT_GT(*std::max_element(whole.begin(), whole.end()), 0.1f);
      EXPECT_EQ(whole, run(*model, tokens, {5, 1, 1, 16}, 2)) << kernels::name_of(format);
    }
  }
}

TEST(Experts, TokensThreadsAndChunksDoNotChangeABit) {
  for (WeightFormat format : {WeightFormat::f32, WeightFormat::bf16, WeightFormat::q8_0}) {
    RandomLlama weights = random_llama(tiny_experts_config(), 7, format);
    ThreadPool pool(1);
    std::unique_ptr<Model> model = make_model(weights.config, weights.weights, pool);
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 23; ++i) tokens.push_back(i * 37 % 160);
    std::vector<float> whole = run(*model, tokens, {23}, 1);
    EXPECT_GT(*std::max_element(whole.begin(), whole.end()), 0.1f);
    EXPECT_EQ(whole, run(*model, tokens, {23}, 3));
    EXPECT_EQ(whole, run(*model, tokens, {5, 1, 1, 16}, 2)) << kernels::name_of(format);
  }
}

TEST(Experts, OneTokenReadsOnlyTheWeightsOfItsExperts) {
  RandomLlama some = random_llama(tiny_experts_config(), 7, WeightFormat::f32);
  ThreadPool pool(1);
  const std::int64_t expert = 4 * 3 * 32 * 64;
  some.config.experts_per_token = 3;
  const std::int64_t three = make_model(some.config, some.weights, pool)->weight_bytes();
  some.config.experts_per_token = 5;
  EXPECT_EQ(make_model(some.config, some.weights, pool)->weight_bytes() - three, 2 * 2 * expert);
}

TEST(Experts, TheLargestAreChosenAndTiesGoToTheLowerIndex) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<std::int32_t> chosen(3);
  std::vector<float> shares(3);
  auto choose = [&](std::vector<float> logits, bool normalise) {
    choose_experts(logits, normalise, chosen, shares);
    return chosen;
  };
  EXPECT_EQ(choose({1, 5, 2, 4, 3}, true), (std::vector<std::int32_t>{1, 3, 4}));
  EXPECT_NEAR(shares[0], std::exp(5.0) / (std::exp(5.0) + std::exp(4.0) + std::exp(3.0)), 1e-6);
  EXPECT_NEAR(shares[0] + shares[1] + shares[2], 1.0, 1e-6);
  EXPECT_EQ(choose({2, 2, 2, 2, 2}, false), (std::vector<std::int32_t>{0, 1, 2}));
  EXPECT_FLOAT_EQ(shares[2], 0.2f);
  EXPECT_EQ(choose({0, 7, 0, 7, 7, 7}, true), (std::vector<std::int32_t>{1, 3, 4}));
  EXPECT_EQ(choose({nan, 1, nan, 0, nan, 2}, true), (std::vector<std::int32_t>{1, 3, 5}));
  EXPECT_EQ(choose({nan, nan, nan, nan}, true), (std::vector<std::int32_t>{0, 1, 2}));
}

TEST(Llama, OnlyWantedRowsGetLogits) {
  RandomLlama weights = random_llama(tiny_llama_config(), 3, WeightFormat::f32);
  ThreadPool pool(1);
  std::unique_ptr<Model> model = make_model(weights.config, weights.weights, pool);
  std::vector<std::int32_t> tokens = {5, 6, 7, 8}, positions = {0, 1, 2, 3}, rows = {3, 1};
  std::vector<float> whole = run(*model, tokens, {4}, 1), wanted(2 * 160 + 1, -77.0f);
  DenseAttention attention(model->config());
  attention.begin_step(4);
  model->step({.tokens = 4,
               .token_ids = tokens.data(),
               .positions = positions.data(),
               .logit_rows = 2,
               .logit_tokens = rows.data(),
               .logits = wanted.data()},
              attention, pool);
  EXPECT_EQ(wanted.back(), -77.0f);
  for (int i = 0; i < 160; ++i) {
    ASSERT_EQ(wanted[i], whole[3 * 160 + i]);
    ASSERT_EQ(wanted[160 + i], whole[160 + i]);
  }
}

TEST(Llama, MixedFormatsInOneFusedLinear) {
  RandomLlama mixed = random_llama(tiny_llama_config(), 3, WeightFormat::f32);
  std::mt19937_64 random(5);
  mixed.add("model.layers.0.self_attn.v_proj.weight", 64, 64, WeightFormat::bf16, random, 0.0f, 0.1f);
  RandomLlama same = random_llama(tiny_llama_config(), 3, WeightFormat::f32);
  const auto* narrow = reinterpret_cast<const BFloat16*>(mixed.weights["model.layers.0.self_attn.v_proj.weight"].data);
  std::vector<float> wide;
  for (int i = 0; i < 64 * 64; ++i) wide.push_back(to_float(narrow[i]));
  same.weights["model.layers.0.self_attn.v_proj.weight"].data = wide.data();
  ThreadPool pool(1);
  std::vector<float> a = run(*make_model(mixed.config, mixed.weights, pool), {1, 2, 3}, {3}, 1);
  std::vector<float> b = run(*make_model(same.config, same.weights, pool), {1, 2, 3}, {3}, 1);
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-4) << i;
}

std::string refusal(ModelConfig config, const Weights& weights) {
  ThreadPool pool(1);
  try {
    make_model(config, weights, pool);
  } catch (const UserError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Model, RequiredWeightsAreThoseThatItTakes) {
  for (const ModelConfig& config : {tiny_llama_config(), tiny_experts_config()}) {
    RandomLlama model = random_llama(config, 1, WeightFormat::f32);
    std::set<std::string> names;
    for (const RequiredWeight& it : required_weights(config)) {
      ASSERT_TRUE(model.weights.contains(it.name)) << it.name;
      EXPECT_EQ(model.weights[it.name].rows, it.rows) << it.name;
      EXPECT_EQ(model.weights[it.name].columns, it.columns) << it.name;
      EXPECT_EQ(it.use == RequiredWeight::Use::vector, it.rows == 1) << it.name;
      names.insert(it.name);
    }
    EXPECT_EQ(names.size(), model.weights.size());
  }
  ModelConfig latent = tiny_llama_config();
  latent.architecture = "deepseek_v2", latent.kv_heads = 4;
  latent.kv_lora_rank = 32, latent.qk_rope_dim = 16, latent.value_dim = 16;
  EXPECT_EQ(required_weights(latent).size(), 2u + 1u + 2u * (2u + 5u + 3u));
}

TEST(Model, RefusalsNameWhatIsWrong) {
  RandomLlama model = random_llama(tiny_llama_config(), 1, WeightFormat::f32);
  ModelConfig config = model.config;
  config.architecture = "lama";
  EXPECT_EQ(refusal(config, model.weights),
            "[model] one of the architectures llama, qwen2, qwen3, qwen3_moe, deepseek_v2, deepseek_v3; got \"lama\"; "
            "did you mean llama?");

  config = model.config;
  config.kv_heads = 3;
  EXPECT_EQ(refusal(config, model.weights),
            "[model config] kv_heads that divides heads; got kv_heads = 3; the weight file's metadata may be damaged");
  config.kv_heads = 0;
  EXPECT_NE(refusal(config, model.weights).find("kv_heads from 1 to 4; got kv_heads = 0"), std::string::npos);

  config = model.config;
  config.rope_divisors = {1, 2, 0};
  EXPECT_NE(refusal(config, model.weights).find("rope_divisors above 0; got rope_divisors = 0"), std::string::npos);
  config.rope_divisors = {1, 2, 3};
  EXPECT_NE(
      refusal(config, model.weights).find("rope_divisors for each of the 16 pairs of channels that rotate; got 3;"),
      std::string::npos);
  config = model.config;
  config.experts_per_token = 2;
  EXPECT_NE(refusal(config, model.weights).find("experts from 1 to 16384; got experts = 0"), std::string::npos);
  config.experts = 1 << 14, config.layers = 1 << 12;
  EXPECT_NE(refusal(config, model.weights).find("experts in all layers from 1 to 131072; got"), std::string::npos);
  config.layers = model.config.layers;
  config.experts = 4, config.expert_width = 32, config.experts_per_token = 5;
  EXPECT_NE(refusal(config, model.weights).find("experts_per_token from 1 to 4; got experts_per_token = 5"),
            std::string::npos);

  Weights weights = model.weights;
  weights["model.layers.1.mlp.up_proj.weights"] = weights["model.layers.1.mlp.up_proj.weight"];
  EXPECT_EQ(
      refusal(model.config, weights),
      "[model] weights that the architecture llama uses; got 1 that it does not: model.layers.1.mlp.up_proj.weights; "
      "the file may be of another architecture");
  weights = model.weights;
  weights.erase("model.layers.1.mlp.up_proj.weight");
  EXPECT_EQ(refusal(model.config, weights),
            "[model] the weight model.layers.1.mlp.up_proj.weight of shape [96, 64]; no such weight among the 19 "
            "given; check "
            "that the file holds the whole model");

  weights = model.weights;
  weights["model.norm.weight"].columns = 32;
  EXPECT_EQ(
      refusal(model.config, weights),
      "[model] the weight model.norm.weight of shape [1, 64]; got shape [1, 32]; the config and the weights must be of "
      "one model");
}

TEST(Model, ATokenOutsideTheVocabularyNeverReadsBeyondIt) {
  RandomLlama weights = random_llama(tiny_llama_config(), 1, WeightFormat::f32);
  ThreadPool pool(1);
  std::unique_ptr<Model> model = make_model(weights.config, weights.weights, pool);
  EXPECT_THROW(run(*model, {1, 160}, {2}, 1), InternalError);
  EXPECT_THROW(run(*model, {-1}, {1}, 1), InternalError);
}

}  // namespace
}  // namespace vortex::models
