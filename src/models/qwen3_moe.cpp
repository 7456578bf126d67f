// Qwen3-MoE: Qwen3's attention; the feed-forward of a token is the weighted sum of the experts its router chooses.
#include "models/architectures.h"
#include "models/decoder.h"
#include "models/experts.h"
#include "models/grouped_query.h"

namespace vortex::models {

std::unique_ptr<Model> make_qwen3_moe(const ModelConfig& config, const WeightSource& weights, ThreadPool& pool) {
  return std::make_unique<Decoder>(config, weights, pool, [&](WeightReader& read, const std::string& layer) {
    return Decoder::Layer{
        std::make_unique<GroupedQueryAttention>(config, read, layer, GroupedQueryOptions{.qk_norm = true}),
        std::make_unique<Experts>(config, read, layer + "mlp.")};
  });
}

}  // namespace vortex::models
