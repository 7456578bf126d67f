#include "gpu/reference.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/check.h"
#include "base/float16.h"
#include "ir/interpret.h"

namespace vortex::gpu_tests {
namespace {

using Vector = std::vector<double>;

double through_bfloat16(double value) { return static_cast<double>(to_float(to_bfloat16(static_cast<float>(value)))); }

class Reference {
 public:
  Reference(const models::ModelConfig& config, const models::Weights& weights,
            const std::optional<ir::Program>& program)
      : c_(config),
        weights_(weights),
        program_(program),
        scale_(static_cast<double>(1.0f / std::sqrt(static_cast<float>(config.head_dim)))) {}

  // Follows sequence `s` of the device's run.
  void follow(int s, int prompt_length, const WalkResult& device, Agreement& out) {
    keys_.assign(static_cast<std::size_t>(c_.layers * c_.kv_heads), {});
    values_ = keys_;
    summaries_.clear();
    for (int position = 0; position < device.positions; ++position) {
      const int token = device.tokens[static_cast<std::size_t>(position * device.sequences + s)];
      const int next = device.tokens[static_cast<std::size_t>((position + 1) * device.sequences + s)];
      if (token < 0 || token >= c_.vocabulary || next < 0 || next >= c_.vocabulary) {
        out.failure = concat("sequence ", s, ", position ", position, ": token ", token, ", next ", next);
        return;
      }
      const Vector logits = step(s, position, position < prompt_length, token, device, out);
      if (!out.failure.empty()) return;
      if (position + 1 < prompt_length && !device.prompts_recorded) continue;
      const float* got = device.logits_at(position, s);
      for (std::size_t i = 0; i < logits.size(); ++i) {
        const double difference = std::abs(logits[i] - static_cast<double>(got[i]));
        double& worst = position + 1 < prompt_length ? out.worst_prompt_logit : out.worst_logit;
        if (!(difference <= worst)) worst = difference;  // NaN is kept
        out.largest_logit = std::max(out.largest_logit, std::abs(logits[i]));
      }
      if (position + 1 < prompt_length) continue;
      const auto best = std::max_element(logits.begin(), logits.end());
      ++out.tokens;
      if (best - logits.begin() != next) {
        ++out.tokens_different;
        out.worst_token_gap = std::max(out.worst_token_gap, *best - logits[static_cast<std::size_t>(next)]);
      }
    }
  }

 private:
  const float* weight(const std::string& name) const { return static_cast<const float*>(weights_.at(name).data); }

  Vector linear(const std::string& name, const Vector& x) const {
    const kernels::WeightView& view = weights_.at(name);
    const auto* w = static_cast<const float*>(view.data);
    Vector out(static_cast<std::size_t>(view.rows));
    for (std::int64_t r = 0; r < view.rows; ++r)
      for (std::int64_t i = 0; i < view.columns; ++i)
        out[static_cast<std::size_t>(r)] +=
            static_cast<double>(w[r * view.columns + i]) * x[static_cast<std::size_t>(i)];
    return out;
  }

  Vector norm(const std::string& name, const Vector& x) const {
    double squares = 0;
    for (const double value : x) squares += value * value;
    const double factor =
        1.0 / std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(c_.rms_epsilon));
    Vector out(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) out[i] = x[i] * factor * static_cast<double>(weight(name)[i]);
    return out;
  }

  void rope(Vector& x, int position) const {
    const std::int64_t dim = c_.head_dim, half = dim / 2;
    for (std::size_t head = 0; head < x.size() / static_cast<std::size_t>(dim); ++head)
      for (std::int64_t i = 0; i < half; ++i) {
        // As the model defines it: a float32 product of position and inverse frequency.
        const auto frequency = static_cast<float>(
            std::pow(static_cast<double>(c_.rope_base), -2.0 * static_cast<double>(i) / static_cast<double>(dim)));
        const auto angle = static_cast<double>(static_cast<float>(position) * frequency);
        double& a = x[head * static_cast<std::size_t>(dim) + static_cast<std::size_t>(i)];
        double& b = x[head * static_cast<std::size_t>(dim) + static_cast<std::size_t>(i + half)];
        const double first = a, second = b;
        a = first * std::cos(angle) - second * std::sin(angle);
        b = second * std::cos(angle) + first * std::sin(angle);
      }
  }

  Vector step(int s, int position, bool dense, int token, const WalkResult& device, Agreement& out) {
    const float* row = weight("model.embed_tokens.weight") + token * c_.width;
    Vector x(row, row + c_.width);
    for (std::int64_t i = 0; i < c_.layers; ++i) {
      const std::string layer = concat("model.layers.", i, ".");
      const Vector normed = norm(layer + "input_layernorm.weight", x);
      Vector q = linear(layer + "self_attn.q_proj.weight", normed),
             k = linear(layer + "self_attn.k_proj.weight", normed);
      const Vector v = linear(layer + "self_attn.v_proj.weight", normed);
      rope(q, position);
      rope(k, position);
      const Vector attended = attend(s, position, dense, static_cast<int>(i), q, k, v, device, out);
      if (!out.failure.empty()) return {};
      add(x, linear(layer + "self_attn.o_proj.weight", attended));
      const Vector again = norm(layer + "post_attention_layernorm.weight", x);
      Vector gate = linear(layer + "mlp.gate_proj.weight", again);
      const Vector up = linear(layer + "mlp.up_proj.weight", again);
      for (std::size_t j = 0; j < gate.size(); ++j) gate[j] = gate[j] / (1.0 + std::exp(-gate[j])) * up[j];
      add(x, linear(layer + "mlp.down_proj.weight", gate));
    }
    return linear(c_.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight", norm("model.norm.weight", x));
  }

  static void add(Vector& x, const Vector& y) {
    for (std::size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }

  bool is_sparse(int layer) const {
    if (!program_) return false;
    const auto& full = program_->config.full_attention_layers;
    return std::find(full.begin(), full.end(), layer) == full.end();
  }

  Vector attend(int s, int position, bool dense, int layer, const Vector& q, const Vector& k, const Vector& v,
                const WalkResult& device, Agreement& out) {
    const std::int64_t dim = c_.head_dim, group = c_.heads / c_.kv_heads;
    Vector result(q.size());
    for (std::int64_t head = 0; head < c_.kv_heads; ++head) {
      Vector& keys = keys_[static_cast<std::size_t>(layer * c_.kv_heads + head)];      // [tokens, dim]
      Vector& values = values_[static_cast<std::size_t>(layer * c_.kv_heads + head)];  // [tokens, dim]
      for (std::int64_t d = 0; d < dim; ++d) {
        keys.push_back(through_bfloat16(k[static_cast<std::size_t>(head * dim + d)]));
        values.push_back(through_bfloat16(v[static_cast<std::size_t>(head * dim + d)]));
      }
      const int row = static_cast<int>(s * c_.kv_heads + head), size = device.list_page_size, tokens = position + 1;
      const int pages = (tokens + size - 1) / size;
      std::vector<std::int64_t> all;
      for (int p = 0; p < pages; ++p) all.push_back(p);
      const std::vector<std::int64_t> came =
          dense && !device.prompts_recorded ? all : device.list(position, layer, row);
      if (dense || !is_sparse(layer)) {
        if (came != all) out.failure = concat("a dense row lists ", came.size(), " of ", pages, " pages");
      } else {
        check_list(layer, static_cast<int>(head), position, q, keys, values, pages, came, out);
      }
      if (!out.failure.empty()) {
        out.failure =
            concat("sequence ", s, ", position ", position, ", layer ", layer, ", KV head ", head, ": ", out.failure);
        return {};
      }
      for (std::int64_t g = 0; g < group; ++g) {
        const double* query = q.data() + (head * group + g) * dim;
        std::vector<std::int64_t> listed;
        for (const std::int64_t page : came)
          for (std::int64_t t = page * size; t < std::min<std::int64_t>((page + 1) * size, tokens); ++t)
            listed.push_back(t);
        Vector weights;
        for (const std::int64_t t : listed) {
          double logit = 0;
          for (std::int64_t d = 0; d < dim; ++d)
            logit += scale_ * query[d] * keys[static_cast<std::size_t>(t * dim + d)];
          weights.push_back(logit);
        }
        const double top = *std::max_element(weights.begin(), weights.end());
        double sum = 0;
        for (double& weight : weights) sum += weight = std::exp(weight - top);
        for (std::size_t j = 0; j < listed.size(); ++j)
          for (std::int64_t d = 0; d < dim; ++d)
            result[static_cast<std::size_t>((head * group + g) * dim + d)] +=
                weights[j] / sum * values[static_cast<std::size_t>(listed[j] * dim + d)];
      }
    }
    return result;
  }

  ir::Environment environment(int layer, int position, int prompt_length) const {
    return {.geometry = {program_->config.page_size, c_.head_dim, c_.heads / c_.kv_heads},
            .tokens = position + 1,
            .step = position - prompt_length,
            .layer = layer,
            .layers = c_.layers,
            .scale = scale_};
  }

  // Judges the device's list of a sparse row by the double-precision scores.
  void check_list(int layer, int head, int position, const Vector& q, const Vector& keys, const Vector& values,
                  int pages, const std::vector<std::int64_t>& came, Agreement& out) {
    const ir::FlowConfig& config = program_->config;
    const std::int64_t dim = c_.head_dim, group = c_.heads / c_.kv_heads, size = config.page_size;
    const ir::Environment where = environment(layer, position, prompt_length_);
    const std::vector<std::int64_t> candidates = ir::candidates_of(config, pages);
    std::map<std::string, ir::Tensor> gathered;
    for (const std::int64_t page : candidates) {
      auto [found, fresh] = summaries_.try_emplace(std::tuple(layer, head, page));
      if (fresh) {
        const auto slice = [&](const Vector& from) {
          return ir::Tensor{{size, dim}, {from.begin() + page * size * dim, from.begin() + (page + 1) * size * dim}};
        };
        found->second = ir::interpret_summaries(*program_, where, slice(keys), slice(values));
        if (config.summary_dtype == ir::DType::bf16)
          for (auto& [name, tensor] : found->second)
            std::transform(tensor.data.begin(), tensor.data.end(), tensor.data.begin(), through_bfloat16);
      }
      for (const auto& [name, tensor] : found->second) {
        ir::Tensor& all = gathered[name];
        if (all.shape.empty()) all.shape = tensor.shape, all.shape.insert(all.shape.begin(), 0);
        ++all.shape[0];
        all.data.insert(all.data.end(), tensor.data.begin(), tensor.data.end());
      }
    }
    ir::Tensor query{{group, dim}, {q.begin() + head * group * dim, q.begin() + (head + 1) * group * dim}};
    for (double& value : query.data) value *= scale_;
    const std::vector<double> scores = candidates.empty()
                                           ? std::vector<double>()
                                           : ir::interpret_scores(*program_, where, query, gathered, candidates);
    judge_list(config, pages, candidates, scores, came, out);
  }

  const models::ModelConfig& c_;
  const models::Weights& weights_;
  const std::optional<ir::Program>& program_;
  double scale_;
  std::vector<Vector> keys_, values_;
  std::map<std::tuple<int, int, std::int64_t>, std::map<std::string, ir::Tensor>> summaries_;

 public:
  int prompt_length_ = 0;
};

}  // namespace

void judge_list(const ir::FlowConfig& config, std::int64_t pages, const std::vector<std::int64_t>& candidates,
                const std::vector<double>& scores, const std::vector<std::int64_t>& came, Agreement& out) {
  const std::vector<std::int64_t> expected = ir::interpret_selection(config, pages, candidates, scores);
  ++out.lists;
  if (came == expected) return;
  ++out.lists_different;
  if (came.size() != expected.size() || !std::is_sorted(came.begin(), came.end())) {
    out.failure =
        concat("a list of ", came.size(), " pages where ", expected.size(), " are attended, or not ascending");
    return;
  }
  const auto score_of = [&](std::int64_t page) -> double {
    const auto found = std::find(candidates.begin(), candidates.end(), page);
    return found == candidates.end() ? std::nan("") : scores[static_cast<std::size_t>(found - candidates.begin())];
  };
  double kth = INFINITY, largest = 0;
  for (const std::int64_t page : expected)
    if (const double score = score_of(page); !std::isnan(score)) kth = std::min(kth, score);
  for (const double score : scores) largest = std::max(largest, std::abs(score));
  for (const std::int64_t page : came) {
    if (std::find(expected.begin(), expected.end(), page) != expected.end()) continue;
    const double gap = (kth - score_of(page)) / largest;
    if (!(gap <= out.worst_list_gap)) out.worst_list_gap = gap;
  }
  for (const std::int64_t page : expected)
    if (std::isnan(score_of(page)) && std::find(came.begin(), came.end(), page) == came.end())
      out.failure = concat("the pinned page ", page, " is not listed");
}

Agreement compare(const models::ModelConfig& config, const models::Weights& weights,
                  const std::optional<ir::Program>& program, const std::vector<std::vector<int>>& prompts,
                  const WalkResult& device) {
  Agreement out;
  Reference reference(config, weights, program);
  for (std::size_t s = 0; s < prompts.size() && out.failure.empty(); ++s) {
    reference.prompt_length_ = static_cast<int>(prompts[s].size());
    reference.follow(static_cast<int>(s), reference.prompt_length_, device, out);
  }
  return out;
}

}  // namespace vortex::gpu_tests
