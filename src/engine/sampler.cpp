#include "engine/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include <vortex/error.h>

#include "base/text.h"

namespace vortex::engine {

namespace {

std::uint64_t mix(std::uint64_t bits) {  // the finisher of splitmix64
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

// exp(x) for x <= 0 within 3e-7 of it; 0 below -87. Written so that the compiler vectorizes loops over it.
inline float exp_of(float x) {
  float bounded = std::max(x, -87.0f);
  float rounded = bounded * 1.44269504f + 12582912.0f;  // 1.5 · 2^23: the integer part lands in the low bits
  std::int32_t power = std::bit_cast<std::int32_t>(rounded) - 0x4b400000;
  float whole = rounded - 12582912.0f;
  float rest = bounded - whole * 0.693145752f - whole * 1.42860677e-6f;
  float value = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.16666667f + rest * (0.041666668f + rest * (0.0083333f + rest * 0.00138889f)))));
  float scaled = value * std::bit_cast<float>((power + 127) << 23);
  return x < -87.0f ? 0.0f : scaled;
}

// weights[i] = exp(slope · (logits[i] - peak)); returns their sum, added in an order fixed by the size.
double exponentials(std::span<const float> logits, float peak, float slope, float* weights) {
  constexpr std::size_t kLanes = 16, kBlock = 1024;
  double total = 0.0;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    std::size_t size = std::min(kBlock, logits.size() - begin);
    const float* from = logits.data() + begin;
    float* to = weights + begin;
    for (std::size_t i = 0; i < size; ++i) to[i] = exp_of(slope * (from[i] - peak));
    float sums[kLanes] = {};
    std::size_t i = 0;
    for (; i + kLanes <= size; i += kLanes)
      for (std::size_t lane = 0; lane < kLanes; ++lane) sums[lane] += to[i + lane];
    for (; i < size; ++i) sums[0] += to[i];
    for (float sum : sums) total += static_cast<double>(sum);
  }
  return total;
}

}  // namespace

double uniform_of(std::uint64_t seed, std::uint64_t position) {
  std::uint64_t bits = mix(mix(seed + 0x9e3779b97f4a7c15ULL) + (position + 1) * 0xd1342543de82ef95ULL);
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

std::int32_t likeliest(std::span<const float> logits) {
  constexpr std::size_t kLanes = 16;
  float peaks[kLanes];
  std::fill(std::begin(peaks), std::end(peaks), -std::numeric_limits<float>::infinity());
  int strange[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= logits.size(); i += kLanes)
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      float value = logits[i + lane];
      strange[lane] |= value != value;
      peaks[lane] = peaks[lane] < value ? value : peaks[lane];
    }
  for (; i < logits.size(); ++i) {
    strange[0] |= logits[i] != logits[i];
    peaks[0] = std::max(peaks[0], logits[i]);
  }
  float peak = *std::max_element(std::begin(peaks), std::end(peaks));
  if (std::any_of(std::begin(strange), std::end(strange), [](int it) { return it != 0; })) return -1;
  return static_cast<std::int32_t>(std::find(logits.begin(), logits.end(), peak) - logits.begin());
}

void SamplingParams::validate() const {
  if (!(temperature >= 0.0f && temperature <= 100.0f))
    throw UserError("sampling", "a temperature from 0 (greedy) to 100", print_number(static_cast<double>(temperature)),
                    "give another");
  if (top_k < 0) throw UserError("sampling", "a top_k of at least 0 (0: all tokens)", std::to_string(top_k), "give another");
  if (!(top_p > 0.0f && top_p <= 1.0f))
    throw UserError("sampling", "a top_p above 0 and at most 1", print_number(static_cast<double>(top_p)), "give another");
}

Sampler::Sampler(std::int64_t vocabulary)
    : weights_(static_cast<std::size_t>(vocabulary)), order_(static_cast<std::size_t>(vocabulary)) {}

Sampled Sampler::sample(std::span<const float> logits, const SamplingParams& params, std::uint64_t seed, std::int64_t position) {
  std::int32_t best = likeliest(logits);
  if (best < 0) return {};
  float peak = logits[static_cast<std::size_t>(best)];
  if (!std::isfinite(peak)) return {};
  double total = exponentials(logits, peak, 1.0f, weights_.data());
  std::int32_t token = best;
  if (params.temperature > 0.0f && params.top_k != 1)
    token = draw(logits, params, peak, uniform_of(seed, static_cast<std::uint64_t>(position)));
  double logprob = static_cast<double>(logits[static_cast<std::size_t>(token)]) - static_cast<double>(peak) - std::log(total);
  return {token, static_cast<float>(logprob)};
}

std::int32_t Sampler::draw(std::span<const float> logits, const SamplingParams& params, float peak, double uniform) {
  double total = exponentials(logits, peak, 1.0f / params.temperature, weights_.data());
  std::size_t size = logits.size();
  std::size_t keep = params.top_k > 0 ? std::min(size, static_cast<std::size_t>(params.top_k)) : size;
  auto weight = [&](std::int32_t token) { return static_cast<double>(weights_[static_cast<std::size_t>(token)]); };

  if (keep == size && params.top_p >= 1.0f) {  // nothing is cut: no order is needed
    double target = uniform * total, sum = 0.0;
    std::int32_t last = 0;
    for (std::size_t token = 0; token < size; ++token) {
      if (weights_[token] == 0.0f) continue;
      last = static_cast<std::int32_t>(token);
      sum += weight(last);
      if (sum > target) break;
    }
    return last;
  }
  // Orders the likeliest tokens first, a few at a time, until the cuts are known.
  for (std::size_t token = 0; token < size; ++token) order_[token] = static_cast<std::int32_t>(token);
  auto likelier = [&](std::int32_t a, std::int32_t b) {
    float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  };
  if (keep < size) {
    std::nth_element(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(keep), order_.end(), likelier);
    std::sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(keep), likelier);
    total = 0.0;
    for (std::size_t i = 0; i < keep; ++i) total += weight(order_[i]);
  }
  double enough = static_cast<double>(params.top_p) * total, mass = 0.0;
  std::size_t kept = 0, sorted = keep < size ? keep : 0;
  while (kept < keep && (kept == 0 || mass < enough)) {
    if (kept == sorted) {
      std::size_t next = std::min(keep, std::max<std::size_t>(64, sorted * 4));
      auto from = order_.begin() + static_cast<std::ptrdiff_t>(sorted), to = order_.begin() + static_cast<std::ptrdiff_t>(next);
      if (to != order_.end()) std::nth_element(from, to, order_.end(), likelier);
      std::sort(from, to, likelier);
      sorted = next;
    }
    mass += weight(order_[kept++]);
  }
  double target = uniform * mass, sum = 0.0;
  for (std::size_t i = 0; i < kept; ++i) {
    sum += weight(order_[i]);
    if (sum > target) return order_[i];
  }
  return order_[kept - 1];
}

}  // namespace vortex::engine
