// Qwen2 and Qwen2.5: Llama with biases on q, k and v.
#include "models/architectures.h"
#include "models/decoder.h"
#include "models/feed_forward.h"
#include "models/grouped_query.h"

namespace vortex::models {

std::unique_ptr<Model> make_qwen2(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool) {
  return std::make_unique<Decoder>(config, weights, pool, [&](WeightReader& read, const std::string& layer) {
    return Decoder::Layer{std::make_unique<GroupedQueryAttention>(config, read, layer, kQwen2),
                          std::make_unique<FeedForward>(config, read, layer + "mlp.", config.ffn_width)};
  });
}

}  // namespace vortex::models
