#include "models/experts.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/text.h"

namespace vortex::models {

void choose_experts(std::span<const float> logits, bool normalise, std::span<std::int32_t> chosen,
                    std::span<float> shares) {
  // An insertion into a short list: a router has at most some hundred logits and chooses a few.
  std::size_t count = 0;
  auto value = [&](std::int32_t index) { return logits[static_cast<std::size_t>(index)]; };
  for (std::size_t i = 0; i < logits.size(); ++i) {
    std::size_t at = count;  // before the chosen ones that are smaller, or no numbers
    while (at > 0 &&
           (logits[i] > value(chosen[at - 1]) || (std::isnan(value(chosen[at - 1])) && !std::isnan(logits[i]))))
      --at;
    if (at == chosen.size()) continue;
    count = std::min(count + 1, chosen.size());
    std::move_backward(chosen.begin() + static_cast<std::ptrdiff_t>(at),
                       chosen.begin() + static_cast<std::ptrdiff_t>(count) - 1,
                       chosen.begin() + static_cast<std::ptrdiff_t>(count));
    chosen[at] = static_cast<std::int32_t>(i);
  }
  const float peak = value(chosen[0]);
  std::sort(chosen.begin(), chosen.end());
  float all = 0.0f, among = 0.0f;
  for (float logit : logits) all += std::exp(logit - peak);
  for (std::size_t i = 0; i < chosen.size(); ++i) among += shares[i] = std::exp(value(chosen[i]) - peak);
  for (float& share : shares) share /= normalise ? among : all;
}

Experts::Experts(const ModelConfig& c, WeightReader& read, const std::string& prefix)
    : width_(c.width), chosen_(c.experts_per_token), normalise_(c.normalise_experts) {
  router_ = read.linear({{prefix + "gate", c.experts}}, width_);
  for (std::int64_t i = 0; i < c.experts; ++i)
    experts_.push_back(std::make_unique<FeedForward>(c, read, concat(prefix, "experts.", i, "."), c.expert_width));
}

std::int64_t Experts::bytes() const {
  return router_.bytes() + (experts_.empty() ? 0 : chosen_ * experts_[0]->bytes());
}

void Experts::run(const BlockStep& step, const float* x, float* out) const {
  const auto n = static_cast<std::size_t>(step.tokens), k = static_cast<std::size_t>(chosen_), count = experts_.size();
  const auto width = static_cast<std::size_t>(width_);
  float* logits = step.workspace.hidden.get(step.tokens * static_cast<std::int64_t>(count));  // [n, experts]
  float* shares = step.workspace.shares.get(step.tokens * chosen_);                           // [n, chosen]
  // chosen [n, chosen], then for each slot of an expert's rows its token, then for each expert its first slot.
  std::int32_t* chosen = step.workspace.indices.get(2 * step.tokens * chosen_ + static_cast<std::int64_t>(count) + 1);
  std::int32_t *slot_of = chosen + n * k, *first = slot_of + n * k;  // [n, chosen], [experts + 1]
  router_.run(x, width_, logits, static_cast<std::int64_t>(count), step.tokens, step.pool);
  for (std::size_t t = 0; t < n; ++t)
    choose_experts({logits + t * count, count}, normalise_, {chosen + t * k, k}, {shares + t * k, k});

  std::fill(first, first + count + 1, 0);
  for (std::size_t i = 0; i < n * k; ++i) ++first[chosen[i] + 1];
  for (std::size_t e = 0; e < count; ++e) first[e + 1] += first[e];
  float* rows = step.workspace.rows.get(step.tokens * chosen_ * width_);        // [n · chosen, width], by expert
  float* results = step.workspace.results.get(step.tokens * chosen_ * width_);  // the same
  for (std::size_t i = 0; i < n * k; ++i) {  // first[e] moves to the end of e's slots
    slot_of[i] = first[chosen[i]]++;
    std::memcpy(rows + static_cast<std::size_t>(slot_of[i]) * width, x + i / k * width, width * sizeof(float));
  }
  for (std::size_t e = 0; e < count; ++e) {
    const std::int64_t begin = e == 0 ? 0 : first[e - 1], end = first[e];
    if (begin < end) experts_[e]->run_rows(step, rows + begin * width_, end - begin, results + begin * width_);
  }
  // In ascending order of experts, whatever else was in the step.
  auto add_up = [&](std::int64_t token, int) {
    const auto t = static_cast<std::size_t>(token);
    float* sum = out + t * width;
    std::fill(sum, sum + width, 0.0f);
    for (std::size_t i = t * k; i < (t + 1) * k; ++i) {
      const float *row = results + static_cast<std::size_t>(slot_of[i]) * width, share = shares[i];
      for (std::size_t c = 0; c < width; ++c) sum[c] += share * row[c];
    }
  };
  if (step.tokens == 1) return add_up(0, 0);
  step.pool.for_each(step.tokens, add_up);
}

}  // namespace vortex::models
