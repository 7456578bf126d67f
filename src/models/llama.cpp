// Llama, also SmolLM2: grouped-query attention with RoPE in halves (scaled in Llama 3.x), SwiGLU.
#include "models/architectures.h"
#include "models/decoder.h"
#include "models/feed_forward.h"
#include "models/grouped_query.h"

namespace vortex::models {

std::unique_ptr<Model> make_llama(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool) {
  return std::make_unique<Decoder>(config, weights, pool, [&](WeightReader& read, const std::string& layer) {
    return Decoder::Layer{std::make_unique<GroupedQueryAttention>(config, read, layer, kLlama),
                          std::make_unique<FeedForward>(config, read, layer + "mlp.", config.ffn_width)};
  });
}

}  // namespace vortex::models
