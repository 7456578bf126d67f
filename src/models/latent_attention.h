// Multi-head latent attention (MLA): what is stored of a token is one latent row [kv_c, k_pe], shared by all heads, and
// decode works on it directly. The up-projections of keys and values are absorbed: that of keys into q before
// attention, that of values into what attention returns, so keys and values of the heads are never made.
#pragma once

#include <memory>
#include <vector>

#include "models/decoder.h"

namespace vortex::models {

class LatentAttention final : public Block {
 public:
  LatentAttention(const ModelConfig&, WeightReader&, const std::string& layer, ThreadPool&);
  std::int64_t bytes() const override;
  void run(const BlockStep&, const float* x, float* out) const override;

 private:
  using Linears = std::vector<std::shared_ptr<const kernels::PackedLinear>>;
  float* query(const BlockStep&, const float* x) const;   // [tokens, heads, latent + rope]
  float* latent(const BlockStep&, const float* x) const;  // [tokens, latent + rope]

  std::int64_t width_, heads_, nope_, rope_, latent_, value_, q_rank_;
  float epsilon_;
  FusedLinear q_, q_down_, kv_down_, output_;  // q_: from x, or from the normed result of q_down_ where there is one
  std::vector<float> q_norm_, kv_norm_;        // [q_rank], [latent]
  Linears key_up_;                             // [heads] of [latent, nope]: the transposed up-projection of keys
  Linears value_up_;                           // [heads] of [value, latent]
};

}  // namespace vortex::models
