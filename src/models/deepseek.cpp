// DeepSeek-V2 and V3: latent attention with RoPE in pairs, SwiGLU. Layers with experts are refused.
#include <vortex/error.h>

#include "base/text.h"
#include "models/architectures.h"
#include "models/feed_forward.h"
#include "models/latent_attention.h"

namespace vortex::models {

std::unique_ptr<Model> make_deepseek(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool) {
  if (config.kv_lora_rank == 0)
    throw UserError("model config", concat("kv_lora_rank of at least 2 for ", config.architecture), "got 0",
                    "the config and the weights must be of one model");
  if (config.experts > 0)
    throw UserError("model config", concat(config.architecture, " without experts"),
                    concat("got experts = ", config.experts), "use a model whose layers are dense");
  return std::make_unique<Decoder>(
      config, weights, pool,
      [&](WeightReader& read, const std::string& layer) {
        return Decoder::Layer{std::make_unique<LatentAttention>(config, read, layer, pool),
                              std::make_unique<FeedForward>(config, read, layer + "mlp.", config.ffn_width)};
      },
      config.qk_rope_dim);
}

}  // namespace vortex::models
