#include "models/latent_attention.h"

#include <cstring>
#include <numeric>

#include "base/float16.h"

namespace vortex::models {

namespace {

using kernels::WeightFormat;
using kernels::WeightView;

// Rows [first, first + count) of a matrix, transposed, with the numbers they hold.
std::shared_ptr<const kernels::PackedLinear> transposed(const WeightView& matrix, std::int64_t first,
                                                        std::int64_t count, ThreadPool& pool) {
  std::vector<std::int32_t> rows(static_cast<std::size_t>(count));
  std::iota(rows.begin(), rows.end(), static_cast<std::int32_t>(first));
  std::vector<float> values(static_cast<std::size_t>(count * matrix.columns)), turned(values.size());
  kernels::gather_rows(matrix, rows.data(), count, values.data(), pool);
  for (std::int64_t r = 0; r < count; ++r)
    for (std::int64_t c = 0; c < matrix.columns; ++c)
      turned[static_cast<std::size_t>(c * count + r)] = values[static_cast<std::size_t>(r * matrix.columns + c)];
  if (matrix.format != WeightFormat::bf16) {
    const WeightView view{WeightFormat::f32, turned.data(), matrix.columns, count};
    return kernels::PackedLinear::pack({&view, 1}, pool);
  }
  std::vector<BFloat16> narrow(turned.size());  // as wide as the file's, nothing is lost
  for (std::size_t i = 0; i < narrow.size(); ++i) narrow[i] = to_bfloat16(turned[i]);
  const WeightView view{WeightFormat::bf16, narrow.data(), matrix.columns, count};
  return kernels::PackedLinear::pack({&view, 1}, pool);
}

std::shared_ptr<const kernels::PackedLinear> rows_of(const WeightView& matrix, std::int64_t first, std::int64_t count,
                                                     ThreadPool& pool) {
  const std::int64_t bytes = kernels::row_bytes(matrix.format, matrix.columns);
  const WeightView view{matrix.format, static_cast<const std::byte*>(matrix.data) + first * bytes, count,
                        matrix.columns};
  return kernels::PackedLinear::pack({&view, 1}, pool);
}

}  // namespace

LatentAttention::LatentAttention(const ModelConfig& c, WeightReader& read, const std::string& layer, ThreadPool& pool)
    : width_(c.width),
      heads_(c.heads),
      nope_(c.head_dim - c.qk_rope_dim),
      rope_(c.qk_rope_dim),
      latent_(c.kv_lora_rank),
      value_(c.value_dim),
      q_rank_(c.q_lora_rank),
      epsilon_(c.rms_epsilon) {
  const std::string name = layer + "self_attn.";
  const std::int64_t q_width = heads_ * (nope_ + rope_);
  if (q_rank_ > 0) {
    q_down_ = read.linear({{name + "q_a_proj", q_rank_}}, width_);
    q_norm_ = read.vector(name + "q_a_layernorm.weight", q_rank_);
    q_ = read.linear({{name + "q_b_proj", q_width}}, q_rank_);
  } else {
    q_ = read.linear({{name + "q_proj", q_width}}, width_);
  }
  kv_down_ = read.linear({{name + "kv_a_proj_with_mqa", latent_ + rope_}}, width_);
  kv_norm_ = read.vector(name + "kv_a_layernorm.weight", latent_);
  const Weight up =
      read.matrix(name + "kv_b_proj.weight", heads_ * (nope_ + value_), latent_, RequiredWeight::Use::linear);
  for (std::int64_t head = 0; up.view.data && head < heads_; ++head) {  // no data: only shapes are wanted
    const std::int64_t first = head * (nope_ + value_);
    key_up_.push_back(transposed(up.view, first, nope_, pool));
    value_up_.push_back(rows_of(up.view, first + nope_, value_, pool));
  }
  output_ = read.linear({{name + "o_proj", width_}}, heads_ * value_);
}

std::int64_t LatentAttention::bytes() const {
  std::int64_t total = q_.bytes() + q_down_.bytes() + kv_down_.bytes() + output_.bytes();
  for (const Linears* linears : {&key_up_, &value_up_})
    for (const auto& linear : *linears) total += linear->bytes();
  return total;
}

float* LatentAttention::query(const BlockStep& step, const float* x) const {
  const std::int64_t n = step.tokens, head_dim = nope_ + rope_, q_width = heads_ * head_dim, row = latent_ + rope_;
  float* plain = step.workspace.wide.get(n * q_width);  // [n, heads, nope + rope]
  if (q_rank_ > 0) {
    float* down = step.workspace.hidden.get(n * q_rank_);  // [n, q_rank]
    q_down_.run(x, width_, down, q_rank_, n, step.pool);
    kernels::rms_norm(down, q_norm_.data(), epsilon_, down, n, q_rank_, step.pool);
    q_.run(down, q_rank_, plain, q_width, n, step.pool);
  } else {
    q_.run(x, width_, plain, q_width, n, step.pool);
  }
  kernels::rope(plain + nope_, q_width, heads_, head_dim, kernels::RopeLayout::pairs, step.angles, n, step.pool);
  float* q = step.workspace.q.get(n * heads_ * row);
  for (std::int64_t head = 0; head < heads_; ++head)
    key_up_[static_cast<std::size_t>(head)]->run(plain + head * head_dim, q_width, q + head * row, heads_ * row, n,
                                                 nullptr, step.pool);
  for (std::int64_t i = 0; i < n * heads_; ++i)
    std::memcpy(q + i * row + latent_, plain + i * head_dim + nope_, static_cast<std::size_t>(rope_) * sizeof(float));
  return q;
}

float* LatentAttention::latent(const BlockStep& step, const float* x) const {
  const std::int64_t n = step.tokens, row = latent_ + rope_;
  float* k = step.workspace.k.get(n * row);          // [n, latent + rope]
  float* parts = step.workspace.v.get(n * latent_);  // [n, latent]
  kv_down_.run(x, width_, k, row, n, step.pool);
  const auto bytes = static_cast<std::size_t>(latent_) * sizeof(float);
  for (std::int64_t t = 0; t < n; ++t) std::memcpy(parts + t * latent_, k + t * row, bytes);
  kernels::rms_norm(parts, kv_norm_.data(), epsilon_, parts, n, latent_, step.pool);
  for (std::int64_t t = 0; t < n; ++t) std::memcpy(k + t * row, parts + t * latent_, bytes);
  kernels::rope(k + latent_, row, 1, row, kernels::RopeLayout::pairs, step.angles, n, step.pool);
  return k;
}

void LatentAttention::run(const BlockStep& step, const float* x, float* out) const {
  const std::int64_t n = step.tokens, values = heads_ * value_;
  const float* k = latent(step, x);
  const float* q = query(step, x);
  float* attended = step.workspace.rows.get(n * heads_ * latent_);  // [n, heads, latent]
  step.attention.run(step.layer, q, k, nullptr, attended);
  float* wide = step.workspace.wide.get(n * values);  // [n, heads, value]
  for (std::int64_t head = 0; head < heads_; ++head)
    value_up_[static_cast<std::size_t>(head)]->run(attended + head * latent_, heads_ * latent_, wide + head * value_,
                                                   values, n, nullptr, step.pool);
  output_.run(wide, values, out, width_, n, step.pool);
}

}  // namespace vortex::models
