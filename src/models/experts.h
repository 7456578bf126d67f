// The feed-forward block of a mixture of experts: a router's softmax chooses a few experts for each token, and their
// results are added, weighted by the router's shares. Only chosen experts are computed, each once over all its tokens.
#pragma once

#include <memory>
#include <span>

#include "models/feed_forward.h"

namespace vortex::models {

class Experts final : public Block {
 public:
  // prefix: "model.layers.3.mlp."; the router is its "gate", the experts "experts.0." and so on.
  Experts(const ModelConfig&, WeightReader&, const std::string& prefix);
  std::int64_t bytes() const override;
  void run(const BlockStep&, const float* x, float* out) const override;

 private:
  std::int64_t width_, chosen_;
  bool normalise_;
  FusedLinear router_;
  std::vector<std::unique_ptr<FeedForward>> experts_;
};

// The `chosen` largest of the logits as ascending indices, ties to the lower index, and their shares of the softmax
// over all logits, or among themselves when `normalise`. Logits that are no numbers are chosen last.
void choose_experts(std::span<const float> logits, bool normalise, std::span<std::int32_t> chosen,
                    std::span<float> shares);

}  // namespace vortex::models
