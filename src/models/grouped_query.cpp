#include "models/grouped_query.h"

#include <cstring>

namespace vortex::models {

GroupedQueryAttention::GroupedQueryAttention(const ModelConfig& c, WeightReader& read, const std::string& layer,
                                             GroupedQueryOptions options)
    : width_(c.width), heads_(c.heads), kv_heads_(c.kv_heads), head_dim_(c.head_dim), epsilon_(c.rms_epsilon) {
  const std::string name = layer + "self_attn.";
  const std::int64_t q_width = heads_ * head_dim_, kv_width = kv_heads_ * head_dim_;
  qkv_ = read.linear({{name + "q_proj", q_width}, {name + "k_proj", kv_width}, {name + "v_proj", kv_width}}, width_,
                     options.qkv_bias);
  output_ = read.linear({{name + "o_proj", width_}}, q_width);
  if (!options.qk_norm) return;
  q_norm_ = read.vector(name + "q_norm.weight", head_dim_);
  k_norm_ = read.vector(name + "k_norm.weight", head_dim_);
}

void GroupedQueryAttention::run(const BlockStep& step, const float* x, float* out) const {
  const std::int64_t n = step.tokens, q_width = heads_ * head_dim_, kv_width = kv_heads_ * head_dim_;
  const std::int64_t qkv_width = q_width + 2 * kv_width;
  float* qkv = step.workspace.wide.get(n * qkv_width);  // [n, qkv_width]
  float* q = step.workspace.q.get(n * q_width);         // [n, heads, head_dim]; also what attention returns
  float* k = step.workspace.k.get(n * kv_width);        // [n, kv_heads, head_dim]
  float* v = step.workspace.v.get(n * kv_width);        // [n, kv_heads, head_dim]
  qkv_.run(x, width_, qkv, qkv_width, n, step.pool);
  for (std::int64_t t = 0; t < n; ++t) {
    const float* row = qkv + t * qkv_width;
    std::memcpy(q + t * q_width, row, static_cast<std::size_t>(q_width) * sizeof(float));
    std::memcpy(k + t * kv_width, row + q_width, static_cast<std::size_t>(kv_width) * sizeof(float));
    std::memcpy(v + t * kv_width, row + q_width + kv_width, static_cast<std::size_t>(kv_width) * sizeof(float));
  }
  if (!q_norm_.empty()) {
    kernels::rms_norm(q, q_norm_.data(), epsilon_, q, n * heads_, head_dim_, step.pool);
    kernels::rms_norm(k, k_norm_.data(), epsilon_, k, n * kv_heads_, head_dim_, step.pool);
  }
  kernels::rope(q, q_width, heads_, head_dim_, kernels::RopeLayout::halves, step.angles, n, step.pool);
  kernels::rope(k, kv_width, kv_heads_, head_dim_, kernels::RopeLayout::halves, step.angles, n, step.pool);
  step.attention.run(step.layer, q, k, v, q);
  output_.run(q, q_width, out, width_, n, step.pool);
}

}  // namespace vortex::models
