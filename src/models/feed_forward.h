// The dense feed-forward block: down(silu(gate(x)) · up(x)).
#pragma once

#include "models/decoder.h"

namespace vortex::models {

class FeedForward final : public Block {
 public:
  // prefix: "model.layers.3.mlp."; hidden: rows of gate and up.
  FeedForward(const ModelConfig&, WeightReader&, const std::string& prefix, std::int64_t hidden);
  std::int64_t bytes() const override { return gate_up_.bytes() + down_.bytes(); }
  void run(const BlockStep&, const float* x, float* out) const override;
  // The same over any rows, not those of the step: x and out [rows, width].
  void run_rows(const BlockStep&, const float* x, std::int64_t rows, float* out) const;

 private:
  std::int64_t width_, hidden_;
  FusedLinear gate_up_, down_;
};

}  // namespace vortex::models
