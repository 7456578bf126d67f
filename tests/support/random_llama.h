// A tiny Llama, Qwen3, Qwen3-MoE or DeepSeek with random weights in any weight format, and attention in double
// precision, for tests that need a model but no file.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/float16.h"
#include "models/model.h"

namespace vortex::testing {

// Weights that a test holds, as a file's are read.
class WeightsInMemory final : public models::WeightSource {
 public:
  explicit WeightsInMemory(const models::Weights& weights) : weights_(weights) {}
  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const auto& [name, view] : weights_) all.push_back(name);
    return all;
  }
  std::optional<models::Weight> find(const std::string& name) const override {
    const auto found = weights_.find(name);
    return found == weights_.end() ? std::nullopt : std::optional<models::Weight>({found->second, nullptr});
  }

 private:
  const models::Weights& weights_;
};

inline models::ModelConfig tiny_llama_config() {
  return {.architecture = "llama",
          .layers = 2,
          .width = 64,
          .ffn_width = 96,
          .heads = 4,
          .kv_heads = 2,
          .head_dim = 32,
          .vocabulary = 160,
          .context = 512,
          .rms_epsilon = 1e-5f,
          .rope_base = 10000.0f,
          .tied_embeddings = true};
}

inline models::ModelConfig tiny_experts_config() {
  models::ModelConfig config = tiny_llama_config();
  config.architecture = "qwen3_moe";
  config.experts = 8, config.experts_per_token = 3, config.expert_width = 32;
  return config;
}

// Heads of 32 channels, 16 of them rotating; a token stores 64 + 16 numbers.
inline models::ModelConfig tiny_latent_config() {
  models::ModelConfig config = tiny_llama_config();
  config.architecture = "deepseek_v2";
  config.kv_heads = config.heads;
  config.kv_lora_rank = 64, config.qk_rope_dim = 16, config.value_dim = 32, config.q_lora_rank = 32;
  config.head_dim = 48;  // 32 and those that rotate
  return config;
}

// One row of weights in a format's own bytes. q8_0: {f16 d, int8[32]}, x = d·q. q4_1: {f16 d, f16 m, nibbles[16]}, x =
// d·q + m, the low nibble of byte i being weight i of the block and the high one weight i + 16.
inline void append_row(kernels::WeightFormat format, const std::vector<float>& row, std::vector<std::uint8_t>& out) {
  auto put = [&](const auto& value) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof value);
  };
  using enum kernels::WeightFormat;
  if (format == f32)
    for (float x : row) put(x);
  if (format == f16)
    for (float x : row) put(to_float16(x).bits);
  if (format == bf16)
    for (float x : row) put(to_bfloat16(x).bits);
  if (format != q8_0 && format != q4_1) return;
  for (std::size_t block = 0; block < row.size(); block += 32) {
    const float* x = row.data() + block;
    auto [low, high] = std::minmax_element(x, x + 32);
    if (format == q8_0) {
      Float16 d = to_float16(std::max(std::abs(*low), std::abs(*high)) / 127.0f);
      put(d.bits);
      for (int i = 0; i < 32; ++i) {
        float q = to_float(d) > 0 ? std::nearbyint(x[i] / to_float(d)) : 0.0f;
        put(static_cast<std::int8_t>(std::clamp(q, -127.0f, 127.0f)));
      }
    } else {
      Float16 d = to_float16((*high - *low) / 15.0f), m = to_float16(*low);
      put(d.bits), put(m.bits);
      auto quant = [&](float value) {
        float q = to_float(d) > 0 ? std::nearbyint((value - to_float(m)) / to_float(d)) : 0.0f;
        return static_cast<unsigned>(std::clamp(q, 0.0f, 15.0f));
      };
      for (int i = 0; i < 16; ++i) put(static_cast<std::uint8_t>(quant(x[i]) | quant(x[i + 16]) << 4));
    }
  }
}

struct RandomLlama {
  models::ModelConfig config;
  models::Weights weights;
  std::vector<std::unique_ptr<std::vector<std::uint8_t>>> memory;

  void add(const std::string& name, std::int64_t rows, std::int64_t columns, kernels::WeightFormat format,
           std::mt19937_64& random, float mean, float deviation) {
    std::normal_distribution<float> normal(mean, deviation);
    auto bytes = std::make_unique<std::vector<std::uint8_t>>();
    std::vector<float> row(static_cast<std::size_t>(columns));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (float& value : row) value = normal(random);
      append_row(format, row, *bytes);
    }
    weights[name] = {.format = format, .data = bytes->data(), .rows = rows, .columns = columns};
    memory.push_back(std::move(bytes));
  }
};

inline RandomLlama random_llama(const models::ModelConfig& c, std::uint64_t seed, kernels::WeightFormat format) {
  RandomLlama model{.config = c, .weights = {}, .memory = {}};
  std::mt19937_64 random(seed);
  const std::int64_t q_width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
  auto matrix = [&](const std::string& name, std::int64_t rows, std::int64_t columns) {
    model.add(name, rows, columns, format, random, 0.0f, 1.0f / std::sqrt(static_cast<float>(columns)));
  };
  auto norm = [&](const std::string& name) {
    model.add(name, 1, c.width, kernels::WeightFormat::f32, random, 1.0f, 0.1f);
  };
  matrix("model.embed_tokens.weight", c.vocabulary, c.width);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    norm(layer + "input_layernorm.weight");
    norm(layer + "post_attention_layernorm.weight");
    if (c.kv_lora_rank > 0) {
      const std::string name = layer + "self_attn.";
      auto latent_norm = [&](const std::string& of, std::int64_t size) {
        model.add(name + of, 1, size, kernels::WeightFormat::f32, random, 1.0f, 0.1f);
      };
      matrix(name + "q_a_proj.weight", c.q_lora_rank, c.width);
      latent_norm("q_a_layernorm.weight", c.q_lora_rank);
      matrix(name + "q_b_proj.weight", q_width, c.q_lora_rank);
      matrix(name + "kv_a_proj_with_mqa.weight", c.kv_lora_rank + c.qk_rope_dim, c.width);
      latent_norm("kv_a_layernorm.weight", c.kv_lora_rank);
      matrix(name + "kv_b_proj.weight", c.heads * (c.head_dim - c.qk_rope_dim + c.value_dim), c.kv_lora_rank);
      matrix(name + "o_proj.weight", c.width, c.heads * c.value_dim);
    } else {
      matrix(layer + "self_attn.q_proj.weight", q_width, c.width);
      matrix(layer + "self_attn.k_proj.weight", kv_width, c.width);
      matrix(layer + "self_attn.v_proj.weight", kv_width, c.width);
      matrix(layer + "self_attn.o_proj.weight", c.width, q_width);
    }
    if (c.architecture.starts_with("qwen3"))
      for (const char* name : {"self_attn.q_norm.weight", "self_attn.k_norm.weight"})
        model.add(layer + name, 1, c.head_dim, kernels::WeightFormat::f32, random, 1.0f, 0.1f);
    auto feed_forward = [&](const std::string& prefix, std::int64_t hidden) {
      matrix(prefix + "gate_proj.weight", hidden, c.width);
      matrix(prefix + "up_proj.weight", hidden, c.width);
      matrix(prefix + "down_proj.weight", c.width, hidden);
    };
    if (c.experts == 0) feed_forward(layer + "mlp.", c.ffn_width);
    if (c.experts > 0) matrix(layer + "mlp.gate.weight", c.experts, c.width);
    for (std::int64_t expert = 0; expert < c.experts; ++expert)
      feed_forward(layer + "mlp.experts." + std::to_string(expert) + ".", c.expert_width);
  }
  norm("model.norm.weight");
  if (!c.tied_embeddings) matrix("lm_head.weight", c.vocabulary, c.width);
  return model;
}

// Full causal attention of one sequence in double precision: every call of a layer appends its tokens.
class DenseAttention final : public attention::LayerAttention {
 public:
  DenseAttention(const models::ModelConfig& config)
      : geometry_(config.attention()), keys_(config.layers), values_(config.layers) {}

  void begin_step(std::int64_t tokens) { tokens_ = tokens; }

  void run(std::int32_t layer, const float* q, const float* k, const float* v, float* out) override {
    const std::int64_t dim = geometry_.head_dim, value_dim = geometry_.value_channels(), group = geometry_.group;
    const std::int64_t kv_width = geometry_.kv_heads * dim, heads = geometry_.kv_heads * group;
    std::vector<float>& keys = keys_[layer];
    std::vector<float>& values = values_[layer];
    const std::int64_t before = static_cast<std::int64_t>(keys.size()) / kv_width;
    keys.insert(keys.end(), k, k + tokens_ * kv_width);
    if (geometry_.values_in_keys) v = k;
    const std::int64_t row = geometry_.values_in_keys ? kv_width : geometry_.kv_heads * value_dim;  // of values
    values.insert(values.end(), v, v + tokens_ * row);
    std::vector<double> weight, sum(value_dim);
    for (std::int64_t t = 0; t < tokens_; ++t)
      for (std::int64_t head = 0; head < heads; ++head) {
        const float* query = q + (t * heads + head) * dim;
        weight.assign(before + t + 1, 0.0);
        for (std::size_t j = 0; j < weight.size(); ++j)
          for (std::int64_t d = 0; d < dim; ++d)
            weight[j] += static_cast<double>(query[d]) * keys[j * kv_width + head / group * dim + d] * geometry_.scale;
        const double peak = *std::max_element(weight.begin(), weight.end());
        double total = 0;
        std::fill(sum.begin(), sum.end(), 0.0);
        for (std::size_t j = 0; j < weight.size(); ++j) {
          const double share = std::exp(weight[j] - peak);
          total += share;
          for (std::int64_t d = 0; d < value_dim; ++d)
            sum[d] += share * values[j * row + head / group * (row / geometry_.kv_heads) + d];
        }
        for (std::int64_t d = 0; d < value_dim; ++d)
          out[(t * heads + head) * value_dim + d] = static_cast<float>(sum[d] / total);
      }
  }

 private:
  attention::Geometry geometry_;
  std::int64_t tokens_ = 0;
  std::vector<std::vector<float>> keys_, values_;  // [layer][tokens, kv_heads, channels]
};

}  // namespace vortex::testing
