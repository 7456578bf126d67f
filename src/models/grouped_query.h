// Grouped-query attention with RoPE in halves: q, k and v from one linear, biased or with normed heads where an
// architecture says so.
#pragma once

#include "models/decoder.h"

namespace vortex::models {

struct GroupedQueryOptions {
  bool qkv_bias = false;
  bool qk_norm = false;  // each head of q and k is normalised before it rotates
};

class GroupedQueryAttention final : public Block {
 public:
  GroupedQueryAttention(const ModelConfig&, WeightReader&, const std::string& layer, GroupedQueryOptions);
  std::int64_t bytes() const override { return qkv_.bytes() + output_.bytes(); }
  void run(const BlockStep&, const float* x, float* out) const override;

 private:
  std::int64_t width_, heads_, kv_heads_, head_dim_;
  float epsilon_;
  FusedLinear qkv_, output_;
  std::vector<float> q_norm_, k_norm_;  // [head_dim], or empty
};

}  // namespace vortex::models
