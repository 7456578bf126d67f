#include "engine/sampler.h"

#include <vortex/error.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/text.h"

namespace vortex::engine {

namespace {

std::uint64_t mix(std::uint64_t bits) {  // the finisher of splitmix64
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

// exp(x) for x <= 0 within 3e-7 of it, and exp(-87) below that. Without a branch, so that compilers vectorize it.
inline float exp_of(float x) {
  float bounded = x < -87.0f ? -87.0f : x;
  float rounded = bounded * 1.44269504f + 12582912.0f;  // 1.5 · 2^23: the integer part lands in the low bits
  std::int32_t power = std::bit_cast<std::int32_t>(rounded) - 0x4b400000;
  float whole = rounded - 12582912.0f;
  float rest = bounded - whole * 0.693145752f - whole * 1.42860677e-6f;
  float series = 0.041666668f + rest * (0.0083333f + rest * 0.00138889f);
  float value = 1.0f + rest * (1.0f + rest * (0.5f + rest * (0.16666667f + rest * series)));
  return value * std::bit_cast<float>((power + 127) << 23);
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
  constexpr std::size_t kLanes = 16, kBlock = 1024;
  float best = -std::numeric_limits<float>::infinity();
  std::size_t best_block = 0;
  float strange = 0.0f;
  for (std::size_t begin = 0; begin < logits.size(); begin += kBlock) {
    std::span<const float> block = logits.subspan(begin, std::min(kBlock, logits.size() - begin));
    float peaks[kLanes], sums[kLanes] = {};
    std::fill(std::begin(peaks), std::end(peaks), -std::numeric_limits<float>::infinity());
    std::size_t i = 0;
    for (; i + kLanes <= block.size(); i += kLanes)
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        float value = block[i + lane];
        peaks[lane] = peaks[lane] < value ? value : peaks[lane];
        sums[lane] += value * 0.0f;  // NaN once a value is NaN; infinities are looked at below
      }
    for (; i < block.size(); ++i) {
      peaks[0] = peaks[0] < block[i] ? block[i] : peaks[0];
      sums[0] += block[i] * 0.0f;
    }
    float peak = *std::max_element(std::begin(peaks), std::end(peaks));
    for (float sum : sums) strange += sum;
    if (peak > best) {
      best = peak;
      best_block = begin;
    }
  }
  if (strange != strange && std::any_of(logits.begin(), logits.end(), [](float x) { return x != x; })) return -1;
  auto from = logits.begin() + static_cast<std::ptrdiff_t>(best_block);
  return static_cast<std::int32_t>(std::find(from, logits.end(), best) - logits.begin());
}

void SamplingParams::validate() const {
  if (!(temperature >= 0.0f && temperature <= 100.0f))
    throw UserError("sampling", "a temperature from 0 (greedy) to 100", print_number(static_cast<double>(temperature)),
                    "give another");
  if (top_k < 0)
    throw UserError("sampling", "a top_k of at least 0 (0: all tokens)", std::to_string(top_k), "give another");
  if (!(top_p > 0.0f && top_p <= 1.0f))
    throw UserError("sampling", "a top_p above 0 and at most 1", print_number(static_cast<double>(top_p)),
                    "give another");
}

Sampler::Sampler(std::int64_t vocabulary)
    : weights_(static_cast<std::size_t>(vocabulary)), order_(static_cast<std::size_t>(vocabulary)) {}

Sampled Sampler::sample(std::span<const float> logits, const SamplingParams& params, std::uint64_t seed,
                        std::int64_t position) {
  std::int32_t best = likeliest(logits);
  if (best < 0) return {};
  float peak = logits[static_cast<std::size_t>(best)];
  if (!std::isfinite(peak)) return {};
  double total = exponentials(logits, peak, 1.0f, weights_.data());
  std::int32_t token = best;
  if (params.temperature > 0.0f && params.top_k != 1)
    token = draw(logits, params, peak, uniform_of(seed, static_cast<std::uint64_t>(position)));
  double logprob =
      static_cast<double>(logits[static_cast<std::size_t>(token)]) - static_cast<double>(peak) - std::log(total);
  return {token, static_cast<float>(logprob)};
}

std::int32_t Sampler::draw(std::span<const float> logits, const SamplingParams& params, float peak, double uniform) {
  // The smallest temperatures have no finite inverse.
  float slope = std::min(1.0f / params.temperature, std::numeric_limits<float>::max());
  double total = exponentials(logits, peak, slope, weights_.data());
  std::size_t size = logits.size();
  std::size_t keep = params.top_k > 0 ? std::min(size, static_cast<std::size_t>(params.top_k)) : size;
  auto weight = [&](std::int32_t token) { return static_cast<double>(weights_[static_cast<std::size_t>(token)]); };

  if (keep == size && params.top_p >= 1.0f) {  // nothing is cut: no order is needed
    double target = uniform * total, sum = 0.0;
    std::int32_t last = 0;
    for (std::size_t token = 0; token < size; ++token) {
      if (logits[token] == -std::numeric_limits<float>::infinity()) continue;
      last = static_cast<std::int32_t>(token);
      sum += weight(last);
      if (sum > target) break;
    }
    return last;
  }
  // Orders the likeliest tokens first, a few at a time, until the cuts are known: among those of some weight, which are
  // nearly always enough, else among all.
  std::size_t count = 0;
  double weighty = 0.0;
  for (std::size_t token = 0; token < size; ++token)
    if (weights_[token] >= 1e-4f) {
      order_[count++] = static_cast<std::int32_t>(token);
      weighty += static_cast<double>(weights_[token]);
    }
  if (keep < size ? count < keep : weighty < static_cast<double>(params.top_p) * total) {
    count = size;
    for (std::size_t token = 0; token < size; ++token) order_[token] = static_cast<std::int32_t>(token);
  }
  auto end = order_.begin() + static_cast<std::ptrdiff_t>(count);
  auto likelier = [&](std::int32_t a, std::int32_t b) {
    float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x > y || (x == y && a < b);
  };
  if (keep < size) {
    std::nth_element(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(keep), end, likelier);
    std::sort(order_.begin(), order_.begin() + static_cast<std::ptrdiff_t>(keep), likelier);
    total = 0.0;
    for (std::size_t i = 0; i < keep; ++i) total += weight(order_[i]);
  }
  double enough = static_cast<double>(params.top_p) * total, mass = 0.0;
  std::size_t kept = 0, sorted = keep < size ? keep : 0;
  while (kept < std::min(keep, count) && (kept == 0 || mass < enough)) {
    if (kept == sorted) {
      std::size_t next = std::min({keep, count, std::max<std::size_t>(64, sorted * 4)});
      auto from = order_.begin() + static_cast<std::ptrdiff_t>(sorted),
           to = order_.begin() + static_cast<std::ptrdiff_t>(next);
      if (to != end) std::nth_element(from, to, end, likelier);
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
