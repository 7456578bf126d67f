#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/arithmetic.h"
#include "engine/softmax.h"

namespace vortex::engine {

namespace {

constexpr float kMost = std::numeric_limits<float>::max();
constexpr float kBanned = -std::numeric_limits<float>::infinity();

std::size_t index(std::int32_t token) { return static_cast<std::size_t>(token); }

// A finite logit stays finite whatever is done to it; only -inf bans.
float bounded(double logit) {
  if (std::isinf(logit)) return kBanned;
  return static_cast<float>(std::clamp(logit, -static_cast<double>(kMost), static_cast<double>(kMost)));
}

// The likelier of two tokens first, the lower one of equals.
auto likelier(std::span<const float> logits) {
  return [logits](std::int32_t a, std::int32_t b) {
    float x = logits[index(a)], y = logits[index(b)];
    return x > y || (x == y && a < b);
  };
}

// The `count` likeliest tokens under softmax(logits), likeliest first. One pass with a heap of `count`.
std::vector<TokenLogprob> top_of(std::span<const float> logits, std::int32_t count, double log_total) {
  auto before = [](const TokenLogprob& a, const TokenLogprob& b) {
    return a.logprob > b.logprob || (a.logprob == b.logprob && a.token < b.token);
  };
  auto size = std::min(static_cast<std::size_t>(count), logits.size());
  std::vector<TokenLogprob> top;
  if (size == 0) return top;
  top.reserve(size);
  for (std::size_t token = 0; token < logits.size(); ++token) {
    TokenLogprob it{static_cast<std::int32_t>(token), logits[token]};
    if (top.size() < size) {
      top.push_back(it);
      std::push_heap(top.begin(), top.end(), before);
    } else if (before(it, top.front())) {
      std::pop_heap(top.begin(), top.end(), before);
      top.back() = it;
      std::push_heap(top.begin(), top.end(), before);
    }
  }
  std::sort_heap(top.begin(), top.end(), before);
  for (TokenLogprob& it : top) it.logprob = static_cast<float>(static_cast<double>(it.logprob) - log_total);
  return top;
}

}  // namespace

double uniform_of(std::uint64_t seed, std::uint64_t position) {
  std::uint64_t bits = mix_bits(mix_bits(seed + kMixStep) + (position + 1) * 0xd1342543de82ef95ULL);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Sampler::Sampler(std::int64_t vocabulary) : weights_(static_cast<std::size_t>(vocabulary)) {
  kept_.reserve(weights_.size());
}

Sampled Sampler::sample(std::span<const float> logits, const SamplingParams& params, const History& history,
                        double uniform) {
  std::int32_t best = likeliest(logits);
  if (best < 0 || !std::isfinite(logits[index(best)])) return {};
  double peak = static_cast<double>(logits[index(best)]);
  double log_total = peak + std::log(exponentials(logits, logits[index(best)], 1.0f, weights_.data()));

  std::span<const float> now = changed(logits, params, history);
  if (now.data() != logits.data()) best = likeliest(now);
  if (now[index(best)] == kBanned) return {.banned = true};
  std::int32_t token = best;
  if (params.temperature > 0.0f && params.top_k != 1) token = draw(now, params, now[index(best)], uniform);
  return {.token = token,
          .logprob = static_cast<float>(static_cast<double>(logits[index(token)]) - log_total),
          .top = top_of(logits, params.top_logprobs, log_total)};
}

// The logits with biases and penalties; themselves when there are none.
std::span<const float> Sampler::changed(std::span<const float> logits, const SamplingParams& params,
                                        const History& history) {
  bool penalized =
      params.repetition_penalty != 1.0f || params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f;
  if (params.logit_bias.empty() && !penalized) return logits;
  changed_.assign(logits.begin(), logits.end());
  for (const auto& [token, bias] : params.logit_bias)
    changed_[index(token)] = bounded(static_cast<double>(changed_[index(token)]) + static_cast<double>(bias));
  if (penalized) penalize(params, history);
  return changed_;
}

void Sampler::penalize(const SamplingParams& params, const History& history) {
  counts_.resize(weights_.size());
  auto prompt = static_cast<std::size_t>(history.prompt);
  for (std::int32_t token : history.tokens.subspan(prompt)) ++counts_[index(token)];
  constexpr std::int32_t kDone = -1;
  for (std::int32_t token : history.tokens) {
    std::int32_t& count = counts_[index(token)];
    if (count == kDone) continue;
    auto logit = static_cast<double>(changed_[index(token)]), factor = static_cast<double>(params.repetition_penalty);
    logit = logit > 0.0 ? logit / factor : logit * factor;
    if (count > 0)
      logit -= static_cast<double>(params.presence_penalty) + static_cast<double>(params.frequency_penalty) * count;
    changed_[index(token)] = bounded(logit);
    count = kDone;
  }
  for (std::int32_t token : history.tokens) counts_[index(token)] = 0;
}

std::int32_t Sampler::draw(std::span<const float> logits, const SamplingParams& params, float peak, double uniform) {
  float slope = std::min(1.0f / params.temperature, kMost);  // the smallest temperatures have no finite inverse
  double total = exponentials(logits, peak, slope, weights_.data());
  std::size_t top_k = params.top_k > 0 ? static_cast<std::size_t>(params.top_k) : logits.size();
  bool some = top_k < logits.size();
  if (!some && params.typical_p >= 1.0f && params.top_p >= 1.0f && params.min_p <= 0.0f)
    return draw_from_all(logits, uniform * total);

  if (some)
    gather_likeliest(logits, top_k);
  else
    gather(logits, params, peak, slope, total);
  if (params.typical_p < 1.0f)
    keep_typical(logits, static_cast<double>(params.typical_p), peak, static_cast<double>(slope));
  if (params.top_p < 1.0f) {
    bool whole = !some && params.typical_p >= 1.0f;  // gather may have left out light ones
    keep_share(static_cast<double>(params.top_p), whole ? total : weight_of_kept(), likelier(logits));
  }
  if (params.min_p > 0.0f) {
    auto at = [&](std::int32_t token) { return static_cast<double>(logits[index(token)]); };
    double most = static_cast<double>(kBanned), least = std::log(static_cast<double>(params.min_p));
    for (std::int32_t token : kept_) most = std::max(most, at(token));
    std::erase_if(kept_, [&](std::int32_t token) { return static_cast<double>(slope) * (at(token) - most) < least; });
  }
  std::sort(kept_.begin(), kept_.end());
  double target = uniform * weight_of_kept(), sum = 0.0;
  for (std::int32_t token : kept_) {
    sum += static_cast<double>(weights_[index(token)]);
    if (sum > target) return token;
  }
  return kept_.back();
}

std::int32_t Sampler::draw_from_all(std::span<const float> logits, double target) const {
  double sum = 0.0;
  std::int32_t last = 0;
  for (std::size_t token = 0; token < logits.size(); ++token) {
    if (logits[token] == kBanned) continue;
    last = static_cast<std::int32_t>(token);
    sum += static_cast<double>(weights_[token]);
    if (sum > target) break;
  }
  return last;
}

// kept_ = the tokens that are not banned; or, when likely ones suffice for the first cut, only those of some weight: to
// order a whole vocabulary is slow.
void Sampler::gather(std::span<const float> logits, const SamplingParams& params, float peak, float slope,
                     double total) {
  if (params.typical_p >= 1.0f && params.top_p < 1.0f)
    for (float least : {-3.0f, -6.0f, -9.0f}) {
      kept_.clear();
      double weight = 0.0;
      for (std::size_t token = 0; token < logits.size(); ++token)
        if (slope * (logits[token] - peak) >= least) {
          kept_.push_back(static_cast<std::int32_t>(token));
          weight += static_cast<double>(weights_[token]);
        }
      if (weight >= static_cast<double>(params.top_p) * total) return;
    }
  kept_.clear();
  for (std::size_t token = 0; token < logits.size(); ++token)
    if (logits[token] != kBanned) kept_.push_back(static_cast<std::int32_t>(token));
}

// kept_ = the `count` likeliest tokens that are not banned, in ascending order.
void Sampler::gather_likeliest(std::span<const float> logits, std::size_t count) {
  kept_.clear();
  if (count > 1024) {  // a heap of so many is slower than to part them all
    for (std::size_t token = 0; token < logits.size(); ++token)
      if (logits[token] != kBanned) kept_.push_back(static_cast<std::int32_t>(token));
    if (count < kept_.size()) {
      auto end = kept_.begin() + static_cast<std::ptrdiff_t>(count);
      std::nth_element(kept_.begin(), end, kept_.end(), likelier(logits));
      kept_.erase(end, kept_.end());
    }
  } else {
    auto before = likelier(logits);  // the least likely of those kept is the front
    float least = kBanned;           // what a token must exceed
    for (std::size_t at = 0; at < logits.size(); ++at) {
      if (!(logits[at] > least)) continue;
      if (kept_.size() == count) {
        std::pop_heap(kept_.begin(), kept_.end(), before);
        kept_.pop_back();
      }
      kept_.push_back(static_cast<std::int32_t>(at));
      std::push_heap(kept_.begin(), kept_.end(), before);
      if (kept_.size() == count) least = logits[index(kept_.front())];
    }
  }
  std::sort(kept_.begin(), kept_.end());
}

void Sampler::keep_typical(std::span<const float> logits, double share, float peak, double slope) {
  distances_.resize(weights_.size());
  double total = weight_of_kept(), log_total = std::log(total), entropy = 0.0;
  for (std::int32_t token : kept_) {  // distances_: -log p, then its distance from the mean of that
    double surprise = log_total - slope * (static_cast<double>(logits[index(token)]) - static_cast<double>(peak));
    distances_[index(token)] = surprise;
    if (surprise - log_total < 87.0)  // below that a weight is no longer exp(-surprise)
      entropy += static_cast<double>(weights_[index(token)]) / total * surprise;
  }
  for (std::int32_t token : kept_) distances_[index(token)] = std::abs(distances_[index(token)] - entropy);
  keep_share(share, total, [&, first = likelier(logits)](std::int32_t a, std::int32_t b) {
    double x = distances_[index(a)], y = distances_[index(b)];
    return x < y || (x == y && first(a, b));
  });
}

double Sampler::weight_of_kept() const {
  double sum = 0.0;
  for (std::int32_t token : kept_) sum += static_cast<double>(weights_[index(token)]);
  return sum;
}

// Keeps the fewest tokens, those that come `before` others first, that weigh share · total. Halves what may hold the
// last of them until little is left to put in order.
template <class Before>
void Sampler::keep_share(double share, double total, Before before) {
  double enough = share * total, mass = 0.0;
  auto weight = [&](std::int32_t token) { return static_cast<double>(weights_[index(token)]); };
  auto begin = kept_.begin(), end = kept_.end();
  while (end - begin > 64) {
    auto middle = begin + (end - begin) / 2;
    std::nth_element(begin, middle, end, before);
    double half = 0.0;
    for (auto it = begin; it != middle; ++it) half += weight(*it);
    if (mass + half >= enough) {
      end = middle;
    } else {
      mass += half;
      begin = middle;
    }
  }
  std::sort(begin, end, before);
  while (begin != end && (begin == kept_.begin() || mass < enough)) mass += weight(*begin++);
  kept_.erase(begin, kept_.end());
}

}  // namespace vortex::engine
