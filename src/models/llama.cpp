#include "models/llama.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/text.h"
#include "kernels/cpu/elementwise.h"
#include "models/weights.h"

namespace vortex::models {

namespace {

struct Layer {
  std::vector<float> attention_norm, ffn_norm;  // [width]
  FusedLinear qkv, output, gate_up, down;
};

class Llama final : public Model {
 public:
  Llama(const ModelConfig& config, const WeightSource& weights, bool qkv_bias, ThreadPool& pool) : config_(config) {
    const ModelConfig& c = config_;
    const std::int64_t q_width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
    WeightReader read(weights, pool);
    embeddings_ = read.matrix("model.embed_tokens.weight", c.vocabulary, c.width);
    for (std::int64_t i = 0; i < c.layers; ++i) {
      const std::string layer = concat("model.layers.", i, ".");
      layers_.push_back({
          .attention_norm = read.vector(layer + "input_layernorm.weight", c.width),
          .ffn_norm = read.vector(layer + "post_attention_layernorm.weight", c.width),
          .qkv = read.linear({{layer + "self_attn.q_proj", q_width},
                              {layer + "self_attn.k_proj", kv_width},
                              {layer + "self_attn.v_proj", kv_width}},
                             c.width, qkv_bias),
          .output = read.linear({{layer + "self_attn.o_proj", c.width}}, q_width),
          .gate_up =
              read.linear({{layer + "mlp.gate_proj", c.ffn_width}, {layer + "mlp.up_proj", c.ffn_width}}, c.width),
          .down = read.linear({{layer + "mlp.down_proj", c.width}}, c.ffn_width),
      });
    }
    final_norm_ = read.vector("model.norm.weight", c.width);
    head_ = read.linear({{c.tied_embeddings ? "model.embed_tokens" : "lm_head", c.vocabulary}}, c.width);
    read.finish(c.architecture);
    for (std::int64_t i = 0; i < c.head_dim / 2; ++i)
      inverse_frequency_.push_back(static_cast<float>(
          std::pow(static_cast<double>(c.rope_base), -2.0 * static_cast<double>(i) / static_cast<double>(c.head_dim))));
  }

  const ModelConfig& config() const override { return config_; }

  std::int64_t weight_bytes() const override {
    std::int64_t total = head_.bytes();
    for (const Layer& layer : layers_)
      total += layer.qkv.bytes() + layer.output.bytes() + layer.gate_up.bytes() + layer.down.bytes();
    return total;
  }

  void step(const StepInput& in, attention::LayerAttention& attention, ThreadPool& pool) override {
    const ModelConfig& c = config_;
    const std::int64_t n = in.tokens, q_width = c.heads * c.head_dim, kv_width = c.kv_heads * c.head_dim;
    const std::int64_t qkv_width = q_width + 2 * kv_width;
    for (std::int64_t t = 0; t < n; ++t)
      VORTEX_CHECK(in.token_ids[t] >= 0 && in.token_ids[t] < c.vocabulary, "token ", in.token_ids[t], " of ",
                   c.vocabulary);
    float* x = grown(x_, n * c.width);            // [n, width], the residual stream
    float* normed = grown(normed_, n * c.width);  // [n, width]
    float* wide = grown(wide_, n * std::max(qkv_width, 2 * c.ffn_width));
    float* q = grown(q_, n * q_width);                // [n, heads, head_dim]; also what attention returns
    float* k = grown(k_, n * kv_width);               // [n, kv_heads, head_dim]
    float* v = grown(v_, n * kv_width);               // [n, kv_heads, head_dim]
    float* hidden = grown(hidden_, n * c.ffn_width);  // [n, ffn_width]

    angles_.fill(in.positions, n, inverse_frequency_.data(), c.head_dim / 2);
    kernels::gather_rows(embeddings_.view, in.token_ids, n, x, pool);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Layer& layer = layers_[i];
      kernels::rms_norm(x, layer.attention_norm.data(), c.rms_epsilon, normed, n, c.width, pool);
      layer.qkv.run(normed, c.width, wide, qkv_width, n, pool);
      kernels::rope(wide, qkv_width, c.heads + c.kv_heads, c.head_dim, kernels::RopeLayout::halves, angles_, n,
                    pool);  // q and k lie side by side
      for (std::int64_t t = 0; t < n; ++t) {
        const float* row = wide + t * qkv_width;
        std::memcpy(q + t * q_width, row, static_cast<std::size_t>(q_width) * sizeof(float));
        std::memcpy(k + t * kv_width, row + q_width, static_cast<std::size_t>(kv_width) * sizeof(float));
        std::memcpy(v + t * kv_width, row + q_width + kv_width, static_cast<std::size_t>(kv_width) * sizeof(float));
      }
      attention.run(static_cast<std::int32_t>(i), q, k, v, q);
      layer.output.run(q, q_width, normed, c.width, n, pool);
      kernels::add(x, normed, n * c.width, pool);

      kernels::rms_norm(x, layer.ffn_norm.data(), c.rms_epsilon, normed, n, c.width, pool);
      layer.gate_up.run(normed, c.width, wide, 2 * c.ffn_width, n, pool);
      kernels::swiglu(wide, hidden, n, c.ffn_width, pool);
      layer.down.run(hidden, c.ffn_width, normed, c.width, n, pool);
      kernels::add(x, normed, n * c.width, pool);
    }

    // The head reads the largest matrix: only the wanted rows pay for it.
    float* wanted = grown(hidden_, in.logit_rows * c.width);  // [logit_rows, width]
    for (std::int64_t r = 0; r < in.logit_rows; ++r) {
      VORTEX_CHECK(in.logit_tokens[r] >= 0 && in.logit_tokens[r] < n, "row ", in.logit_tokens[r], " of ", n);
      std::memcpy(wanted + r * c.width, x + in.logit_tokens[r] * c.width,
                  static_cast<std::size_t>(c.width) * sizeof(float));
    }
    if (in.logit_rows == 0) return;
    kernels::rms_norm(wanted, final_norm_.data(), c.rms_epsilon, wanted, in.logit_rows, c.width, pool);
    head_.run(wanted, c.width, in.logits, c.vocabulary, in.logit_rows, pool);
  }

 private:
  static float* grown(std::vector<float>& buffer, std::int64_t size) {
    if (buffer.size() < static_cast<std::size_t>(size)) buffer.resize(static_cast<std::size_t>(size));
    return buffer.data();
  }

  ModelConfig config_;
  Weight embeddings_;
  std::vector<Layer> layers_;
  std::vector<float> final_norm_, inverse_frequency_;
  FusedLinear head_;
  kernels::RopeAngles angles_;
  std::vector<float> x_, normed_, wide_, q_, k_, v_, hidden_;
};

}  // namespace

std::unique_ptr<Model> make_llama(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool) {
  return std::make_unique<Llama>(config, weights, false, pool);
}

std::unique_ptr<Model> make_qwen2(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool) {
  return std::make_unique<Llama>(config, weights, true, pool);
}

}  // namespace vortex::models
