#include "engine/softmax.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace vortex::engine {

namespace {

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

}  // namespace

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

}  // namespace vortex::engine
