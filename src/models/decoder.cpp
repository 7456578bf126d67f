#include "models/decoder.h"

#include <vortex/error.h>

#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/text.h"

namespace vortex::models {

std::vector<float> rope_frequencies(const ModelConfig& config, std::int64_t dim) {
  const auto half = static_cast<std::size_t>(dim / 2);
  if (!config.rope_divisors.empty() && config.rope_divisors.size() != half)
    throw UserError("model config", concat("rope_divisors for each of the ", half, " pairs of channels that rotate"),
                    concat("got ", config.rope_divisors.size()), "the config and the weights must be of one model");
  std::vector<float> frequencies;
  for (std::size_t i = 0; i < half; ++i) {
    const double plain =
        std::pow(static_cast<double>(config.rope_base), -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    frequencies.push_back(static_cast<float>(config.rope_divisors.empty() ? plain : plain / config.rope_divisors[i]));
  }
  return frequencies;
}

Decoder::Decoder(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool, const MakeLayer& make_layer,
                 std::int64_t rotary_dim)
    : config_(config), inverse_frequency_(rope_frequencies(config, rotary_dim ? rotary_dim : config.head_dim)) {
  const ModelConfig& c = config_;
  WeightReader read(weights, pool);
  embeddings_ = read.matrix("model.embed_tokens.weight", c.vocabulary, c.width);
  for (std::int64_t i = 0; i < c.layers; ++i) {
    const std::string layer = concat("model.layers.", i, ".");
    layers_.push_back({.attention_norm = read.vector(layer + "input_layernorm.weight", c.width),
                       .feed_forward_norm = read.vector(layer + "post_attention_layernorm.weight", c.width),
                       .blocks = make_layer(read, layer)});
  }
  final_norm_ = read.vector("model.norm.weight", c.width);
  // Rounding its input would cost a third of all that rounding does to the logits, and few rows pass through it.
  head_ = read.linear({{c.tied_embeddings ? "model.embed_tokens" : "lm_head", c.vocabulary}}, c.width, false,
                      kernels::Activations::int8_twice);
  read.finish(c.architecture);
}

std::int64_t Decoder::weight_bytes() const {
  std::int64_t total = head_.bytes();
  for (const NormedLayer& layer : layers_)
    total += layer.blocks.attention->bytes() + layer.blocks.feed_forward->bytes();
  return total;
}

void Decoder::step(const StepInput& in, attention::LayerAttention& attention, ThreadPool& pool) {
  const ModelConfig& c = config_;
  const std::int64_t n = in.tokens;
  for (std::int64_t t = 0; t < n; ++t)
    VORTEX_CHECK(in.token_ids[t] >= 0 && in.token_ids[t] < c.vocabulary, "token ", in.token_ids[t], " of ",
                 c.vocabulary);
  float* x = x_.get(n * c.width);            // [n, width], the residual stream
  float* normed = normed_.get(n * c.width);  // [n, width]
  float* added = added_.get(n * c.width);    // [n, width]

  angles_.fill(in.positions, n, inverse_frequency_.data(), static_cast<std::int64_t>(inverse_frequency_.size()));
  if (c.rope_magnitude != 1.0f)
    for (std::vector<float>* part : {&angles_.cosine, &angles_.sine})
      for (std::size_t i = 0; i < static_cast<std::size_t>(n) * inverse_frequency_.size(); ++i)
        (*part)[i] *= c.rope_magnitude;
  kernels::gather_rows(embeddings_.view, in.token_ids, n, x, pool);
  BlockStep step{.tokens = n, .angles = angles_, .attention = attention, .workspace = workspace_, .pool = pool};
  for (const NormedLayer& layer : layers_) {
    kernels::rms_norm(x, layer.attention_norm.data(), c.rms_epsilon, normed, n, c.width, pool);
    layer.blocks.attention->run(step, normed, added);
    kernels::add(x, added, n * c.width, pool);
    kernels::rms_norm(x, layer.feed_forward_norm.data(), c.rms_epsilon, normed, n, c.width, pool);
    layer.blocks.feed_forward->run(step, normed, added);
    kernels::add(x, added, n * c.width, pool);
    ++step.layer;
  }

  // The head reads the largest matrix: only the wanted rows pay for it.
  float* wanted = normed_.get(in.logit_rows * c.width);  // [logit_rows, width]
  for (std::int64_t r = 0; r < in.logit_rows; ++r) {
    VORTEX_CHECK(in.logit_tokens[r] >= 0 && in.logit_tokens[r] < n, "row ", in.logit_tokens[r], " of ", n);
    std::memcpy(wanted + r * c.width, x + in.logit_tokens[r] * c.width,
                static_cast<std::size_t>(c.width) * sizeof(float));
  }
  if (in.logit_rows == 0) return;
  kernels::rms_norm(wanted, final_norm_.data(), c.rms_epsilon, wanted, in.logit_rows, c.width, pool);
  head_.run(wanted, c.width, in.logits, c.vocabulary, in.logit_rows, pool);
}

}  // namespace vortex::models
