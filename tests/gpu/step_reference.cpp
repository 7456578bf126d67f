#include "gpu/step_reference.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/check.h"
#include "base/float16.h"
#include "ir/interpret.h"

namespace vortex::gpu_tests {
namespace {

double through_bfloat16(double value) { return static_cast<double>(to_float(to_bfloat16(static_cast<float>(value)))); }

// Weights [out, in] of a linear, out of tiles of swizzled blocks (kernels/cuda/operand.cuh).
std::vector<float> unpacked(const std::vector<unsigned short>& packed, std::int64_t out, std::int64_t in, int tile,
                            ThreadPool& threads) {
  std::vector<float> weights(static_cast<std::size_t>(out * in));
  threads.for_each(out, [&](std::int64_t row, int) {
    const std::int64_t inside = row % tile;
    for (std::int64_t i = 0; i < in; ++i) {
      const std::int64_t piece = (i % 64 / 8) ^ (inside & 7);
      const std::int64_t at = row / tile * tile * in + (i / 64 * tile + inside) * 64 + piece * 8 + i % 8;
      weights[static_cast<std::size_t>(row * in + i)] = to_float(BFloat16{packed[static_cast<std::size_t>(at)]});
    }
  });
  return weights;
}

}  // namespace

void StepAgreement::join(const StepAgreement& other) {
  const auto keep_largest = [](double& mine, double theirs) {
    if (!(theirs <= mine)) mine = theirs;  // NaN is kept
  };
  error += other.error, size += other.size;
  tokens += other.tokens, tokens_different += other.tokens_different;
  lists += other.lists, lists_different += other.lists_different;
  keep_largest(worst_token_gap, other.worst_token_gap);
  keep_largest(worst_logit, other.worst_logit);
  keep_largest(largest_logit, other.largest_logit);
  keep_largest(worst_list_gap, other.worst_list_gap);
  if (failure.empty()) failure = other.failure;
}

StepReference::StepReference(FastStep& step, const StepPool& pool, const std::optional<ir::Program>& program)
    : model_(pool.model()),
      page_size_(pool.page_size()),
      table_stride_(step.table_stride()),
      pool_pages_(pool.pages()),
      tables_(step.tables()),
      program_(program),
      list_page_(program ? static_cast<int>(program->config.page_size) : pool.page_size()),
      scale_(static_cast<double>(1.0f / std::sqrt(static_cast<float>(model_.head_dim)))) {
  sequences_ = static_cast<int>(tables_.size()) / table_stride_;
  device::Stream& stream = step.stream();
  const FastStep::Weights& w = step.weights();
  const auto weights_of = [&](const kernels::StreamedLinear& linear, const device::Array<unsigned short>& of) {
    return unpacked(of.download(stream), linear.shape().out, linear.shape().in, kernels::StreamedLinear::kPackedRows,
                    threads_);
  };
  for (std::size_t layer = 0; layer < w.qkv_of.size(); ++layer)
    layers_.push_back({weights_of(*w.qkv, w.qkv_of[layer]), weights_of(*w.output, w.output_of[layer]),
                       weights_of(*w.gate_up, w.gate_up_of[layer]), weights_of(*w.down, w.down_of[layer])});
  head_ = weights_of(*w.head, w.head_of);
  norm_ = w.norm.download(stream), head_norm_ = w.head_norm.download(stream);
  kv_ = pool.memory().download(stream);
}

std::size_t StepReference::at(int layer, int sequence, int head, std::int64_t token) const {
  const std::int64_t page =
      tables_[static_cast<std::size_t>(sequence * table_stride_) + static_cast<std::size_t>(token / page_size_)];
  const std::int64_t plane = ((layer * pool_pages_ + page) * model_.kv_heads + head) * 2;
  return static_cast<std::size_t>((plane * page_size_ + token % page_size_) * model_.head_dim);
}

double StepReference::kv(std::size_t index) const { return static_cast<double>(to_float(BFloat16{kv_[index]})); }

StepReference::Rows StepReference::multiply(const std::vector<float>& weight, const Rows& x) const {
  const std::size_t n = static_cast<std::size_t>(sequences_), in = x.size() / n, out = weight.size() / in;
  Rows turned(x.size()), y(n * out);  // [in, n]: sequences side by side
  for (std::size_t s = 0; s < n; ++s)
    for (std::size_t i = 0; i < in; ++i) turned[i * n + s] = x[s * in + i];
  threads_.for_each(static_cast<std::int64_t>(out), [&](std::int64_t row, int) {
    std::vector<double> sums(n, 0.0);
    const float* const w = weight.data() + static_cast<std::size_t>(row) * in;
    for (std::size_t i = 0; i < in; ++i)
      for (std::size_t s = 0; s < n; ++s) sums[s] += static_cast<double>(w[i]) * turned[i * n + s];
    for (std::size_t s = 0; s < n; ++s) y[s * out + static_cast<std::size_t>(row)] = sums[s];
  });
  return y;
}

StepReference::Rows StepReference::operand(const Rows& residual) const {
  Rows out(residual.size());
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = through_bfloat16(residual[i] * static_cast<double>(norm_[i % norm_.size()]));
  return out;
}

std::vector<double> StepReference::factors(const Rows& residual) const {
  const std::size_t width = static_cast<std::size_t>(model_.width);
  std::vector<double> out;
  for (std::size_t begin = 0; begin < residual.size(); begin += width) {
    double squares = 0;
    for (std::size_t i = begin; i < begin + width; ++i) squares += residual[i] * residual[i];
    out.push_back(1.0 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(model_.epsilon)));
  }
  return out;
}

// Norm and rotation of a head of q or k.
void StepReference::turn(double* head, int position, bool normed) const {
  const std::size_t dim = static_cast<std::size_t>(model_.head_dim), half = dim / 2;
  if (normed) {
    double squares = 0;
    for (std::size_t i = 0; i < dim; ++i) squares += head[i] * head[i];
    const double factor = 1.0 / std::sqrt(squares / static_cast<double>(dim) + static_cast<double>(model_.epsilon));
    for (std::size_t i = 0; i < dim; ++i) head[i] *= factor * static_cast<double>(head_norm_[i]);
  }
  for (std::size_t i = 0; i < half; ++i) {
    const double angle =
        position * std::pow(model_.rope_base, -2.0 * static_cast<double>(i) / static_cast<double>(dim));
    const auto cosine = static_cast<double>(static_cast<float>(std::cos(angle)));
    const auto sine = static_cast<double>(static_cast<float>(std::sin(angle)));
    const double x = head[i], y = head[i + half];
    head[i] = x * cosine - y * sine, head[i + half] = y * cosine + x * sine;
  }
}

// The pages that the device attended for a row, of list_page_ tokens.
std::vector<std::int64_t> StepReference::pages_of(int layer, int sequence, int head, int length,
                                                  const FastStep::Log& log, std::string& failure) const {
  const std::int64_t held = (length + list_page_ - 1) / list_page_;
  std::vector<std::int64_t> out;
  if (!program_) {
    for (std::int64_t page = 0; page < held; ++page) out.push_back(page);
    return out;
  }
  const std::size_t row = static_cast<std::size_t>((layer * sequences_ + sequence) * model_.kv_heads + head);
  const int listed = log.listed[row];
  if (listed <= 0 || listed > length) {
    failure = concat(listed, " tokens listed of ", length);
    return out;
  }
  const int* const table = tables_.data() + sequence * table_stride_;
  std::int64_t tokens = 0;
  for (std::int64_t i = 0; i < (listed + page_size_ - 1) / page_size_; ++i) {
    const int physical = log.physical[row * static_cast<std::size_t>(log.stride) + static_cast<std::size_t>(i)];
    const std::int64_t logical = std::find(table, table + table_stride_, physical) - table;
    if (logical * page_size_ >= length) {
      failure = concat("entry ", i, " of the list is physical page ", physical, ", none of the sequence's");
      return out;
    }
    tokens += std::min<std::int64_t>(page_size_, length - logical * page_size_);
    const std::int64_t page = logical * page_size_ / list_page_;
    if (out.empty() || out.back() != page) out.push_back(page);
  }
  std::int64_t whole = 0;
  for (const std::int64_t page : out) whole += std::min<std::int64_t>(list_page_, length - page * list_page_);
  if (tokens != listed || whole != listed)
    failure = concat(listed, " tokens listed; their physical pages hold ", tokens, ", their pages ", whole);
  return out;
}

void StepReference::judge(int layer, int sequence, int head, int length, const double* q,
                          const std::vector<std::int64_t>& came, Agreement& out) const {
  const ir::FlowConfig& config = program_->config;
  const std::int64_t dim = model_.head_dim, size = config.page_size, pages = (length + size - 1) / size;
  const ir::Environment where{.geometry = {size, dim, model_.group()},
                              .tokens = length,
                              .step = step_,
                              .layer = layer,
                              .layers = model_.layers,
                              .scale = scale_};
  const std::vector<std::int64_t> candidates = ir::candidates_of(config, pages);
  std::map<std::string, ir::Tensor> gathered;
  for (const std::int64_t page : candidates) {
    ir::Tensor k{{size, dim}, {}}, v = k;
    for (std::int64_t token = page * size; token < (page + 1) * size; ++token) {
      const std::size_t from = at(layer, sequence, head, token);
      for (std::size_t d = 0; d < static_cast<std::size_t>(dim); ++d)
        k.data.push_back(kv(from + d)), v.data.push_back(kv(from + value_offset() + d));
    }
    for (auto& [name, tensor] : ir::interpret_summaries(*program_, where, k, v)) {
      ir::Tensor& all = gathered[name];
      if (all.shape.empty()) all.shape = tensor.shape, all.shape.insert(all.shape.begin(), 0);
      ++all.shape[0];
      for (const double value : tensor.data)
        all.data.push_back(config.summary_dtype == ir::DType::bf16 ? through_bfloat16(value) : value);
    }
  }
  ir::Tensor query{{model_.group(), dim}, {q, q + model_.group() * dim}};
  for (double& value : query.data) value *= scale_;
  const std::vector<double> scores =
      candidates.empty() ? std::vector<double>() : ir::interpret_scores(*program_, where, query, gathered, candidates);
  judge_list(config, pages, candidates, scores, came, out);
}

StepReference::Rows StepReference::attend(int layer, const Rows& qkv, const std::vector<int>& lengths,
                                          const FastStep::Log& log, StepAgreement& out) {
  const int heads = model_.kv_heads, group = model_.group(), dim = model_.head_dim;
  const std::size_t width = qkv.size() / static_cast<std::size_t>(sequences_);
  Rows attended(static_cast<std::size_t>(sequences_) * static_cast<std::size_t>(model_.q_width()));
  std::vector<StepAgreement> of_rows(static_cast<std::size_t>(sequences_ * heads));
  threads_.for_each(sequences_ * heads, [&](std::int64_t row, int) {
    const int s = static_cast<int>(row) / heads, head = static_cast<int>(row) % heads;
    const int length = lengths[static_cast<std::size_t>(s)], position = length - 1;
    StepAgreement& agreement = of_rows[static_cast<std::size_t>(row)];
    const double* const from = qkv.data() + static_cast<std::size_t>(s) * width;
    const double* const k_from = from + model_.q_width() + head * dim;
    std::vector<double> q(from + head * group * dim, from + (head + 1) * group * dim), k(k_from, k_from + dim);
    for (int g = 0; g < group; ++g) turn(q.data() + g * dim, position, model_.qk_norm);
    turn(k.data(), position, model_.qk_norm);
    const std::size_t to = at(layer, s, head, position);
    for (int d = 0; d < dim; ++d) {
      const auto channel = static_cast<std::size_t>(d);
      kv_[to + channel] = to_bfloat16(static_cast<float>(k[channel])).bits;
      kv_[to + value_offset() + channel] = to_bfloat16(static_cast<float>(k_from[model_.kv_width() + d])).bits;
    }
    const std::vector<std::int64_t> came = pages_of(layer, s, head, length, log, agreement.failure);
    if (agreement.failure.empty() && program_) judge(layer, s, head, length, q.data(), came, agreement);
    if (!agreement.failure.empty()) {
      agreement.failure =
          concat("step ", step_, ", sequence ", s, ", layer ", layer, ", KV head ", head, ": ", agreement.failure);
      return;
    }
    std::vector<std::size_t> listed;
    for (const std::int64_t page : came)
      for (std::int64_t t = page * list_page_; t < std::min<std::int64_t>((page + 1) * list_page_, length); ++t)
        listed.push_back(at(layer, s, head, t));
    for (int g = 0; g < group; ++g) {
      double* const result = attended.data() + (static_cast<std::int64_t>(s) * heads + head) * group * dim + g * dim;
      std::vector<double> weights;
      for (const std::size_t token : listed) {
        double logit = 0;
        for (int d = 0; d < dim; ++d)
          logit += scale_ * q[static_cast<std::size_t>(g * dim + d)] * kv(token + static_cast<std::size_t>(d));
        weights.push_back(logit);
      }
      const double top = *std::max_element(weights.begin(), weights.end());
      double sum = 0;
      for (double& weight : weights) sum += weight = std::exp(weight - top);
      for (std::size_t i = 0; i < listed.size(); ++i)
        for (int d = 0; d < dim; ++d)
          result[d] += weights[i] / sum * kv(listed[i] + value_offset() + static_cast<std::size_t>(d));
    }
  });
  for (const StepAgreement& of_row : of_rows) out.join(of_row);
  return attended;
}

void StepReference::follow(const std::vector<int>& tokens, const std::vector<int>& lengths, const FastStep::Log& log,
                           StepAgreement& out) {
  const std::size_t n = static_cast<std::size_t>(sequences_), width = static_cast<std::size_t>(model_.width);
  const auto scale = [&](Rows& rows, const std::vector<double>& by) {
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i] *= by[i / (rows.size() / n)];
  };
  const auto round = [](Rows rows) {
    for (double& value : rows) value = through_bfloat16(value);
    return rows;
  };
  const auto add = [](Rows& to, const Rows& from) {
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[i];
  };
  Rows residual;
  for (const int token : tokens) {
    const float* const row = head_.data() + static_cast<std::size_t>(token) * width;
    residual.insert(residual.end(), row, row + width);
  }
  for (int number = 0; number < model_.layers && out.failure.empty(); ++number) {
    const Layer& layer = layers_[static_cast<std::size_t>(number)];
    Rows qkv = multiply(layer.qkv, operand(residual));
    scale(qkv, factors(residual));
    add(residual, multiply(layer.output, round(attend(number, qkv, lengths, log, out))));
    Rows both = multiply(layer.gate_up, operand(residual));  // of 16 channels 8 gates, then 8 that they let through
    scale(both, factors(residual));
    Rows hidden;
    for (std::size_t i = 0; i < both.size(); ++i)
      if (i % 16 < 8) hidden.push_back(both[i] / (1.0 + std::exp(-both[i])) * both[i + 8]);
    add(residual, multiply(layer.down, round(hidden)));
  }
  if (!out.failure.empty()) return;
  Rows logits = multiply(head_, operand(residual));
  scale(logits, factors(residual));
  const std::size_t vocabulary = logits.size() / n;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double difference = static_cast<double>(log.logits[i]) - logits[i];
    out.error += difference * difference, out.size += logits[i] * logits[i];
    if (!(std::abs(difference) <= out.worst_logit)) out.worst_logit = std::abs(difference);  // NaN is kept
    out.largest_logit = std::max(out.largest_logit, std::abs(logits[i]));
  }
  for (std::size_t s = 0; s < n; ++s) {
    const auto begin = logits.begin() + static_cast<std::ptrdiff_t>(s * vocabulary);
    const auto best = std::max_element(begin, begin + static_cast<std::ptrdiff_t>(vocabulary));
    const int next = log.next[s];
    if (next < 0 || next >= model_.vocabulary) {
      out.failure = concat("step ", step_, ", sequence ", s, ": the next token is ", next);
      return;
    }
    ++out.tokens;
    if (best - begin == next) continue;
    ++out.tokens_different;
    out.worst_token_gap = std::max(out.worst_token_gap, *best - *(begin + next));
  }
  ++step_;
}

}  // namespace vortex::gpu_tests
