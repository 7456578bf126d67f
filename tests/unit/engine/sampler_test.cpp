#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace vortex::engine {
namespace {

std::vector<float> random_logits(std::size_t count, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> out(count);
  for (float& x : out) x = normal(random);
  return out;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature = 1.0) {
  double peak = *std::max_element(logits.begin(), logits.end()), total = 0.0;
  std::vector<double> out;
  for (float x : logits) total += std::exp((static_cast<double>(x) - peak) / temperature);
  for (float x : logits) out.push_back(std::exp((static_cast<double>(x) - peak) / temperature) / total);
  return out;
}

TEST(Sampler, GreedyTakesTheLowestOfTheLikeliest) {
  Sampler sampler(50);
  std::vector<float> logits(50, 1.0f);
  EXPECT_EQ(sampler.sample(logits, {}, 0, 0).token, 0);
  logits[37] = logits[41] = 2.0f;
  EXPECT_EQ(sampler.sample(logits, {}, 0, 0).token, 37);
  logits[3] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(sampler.sample(logits, {}, 0, 0).token, 37);
  logits[49] = std::nanf("");
  EXPECT_EQ(sampler.sample(logits, {}, 0, 0).token, -1);
}

TEST(Sampler, TheSmallestTemperaturesAreGreedy) {
  Sampler sampler(100);
  std::vector<float> logits = random_logits(100, 8);
  const std::int32_t best = sampler.sample(logits, {}, 0, 0).token;
  for (float temperature : {1e-20f, 1e-39f, std::numeric_limits<float>::denorm_min()})
    for (std::int32_t top_k : {0, 5})
      for (std::int64_t position = 0; position < 5; ++position)
        EXPECT_EQ(sampler.sample(logits, {.temperature = temperature, .top_k = top_k}, 3, position).token, best)
            << temperature;
}

TEST(Sampler, LogProbabilitiesAreThoseOfTheSoftmax) {
  for (std::size_t size : {1u, 15u, 1000u, 49152u}) {
    Sampler sampler(static_cast<std::int64_t>(size));
    std::vector<float> logits = random_logits(size, size);
    std::vector<double> expected = softmax(logits);
    for (float temperature : {0.0f, 0.7f}) {
      Sampled it = sampler.sample(logits, {.temperature = temperature}, 5, 17);
      EXPECT_NEAR(it.logprob, std::log(expected[static_cast<std::size_t>(it.token)]), 2e-6) << size;
    }
  }
}

TEST(Sampler, DrawsFollowTheDistribution) {
  constexpr int kDraws = 40'000;
  std::vector<float> logits = random_logits(12, 3);
  Sampler sampler(12);
  for (SamplingParams params : {SamplingParams{.temperature = 0.8f}, SamplingParams{.temperature = 1.5f, .top_k = 4},
                                SamplingParams{.temperature = 1.0f, .top_p = 0.8f},
                                SamplingParams{.temperature = 1.2f, .top_k = 6, .top_p = 0.7f}}) {
    std::vector<double> expected = softmax(logits, static_cast<double>(params.temperature));
    std::vector<std::size_t> order(12);
    for (std::size_t i = 0; i < 12; ++i) order[i] = i;
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return logits[a] > logits[b]; });
    std::size_t keep = params.top_k > 0 ? static_cast<std::size_t>(params.top_k) : 12;
    double total = 0.0, mass = 0.0;
    for (std::size_t i = 0; i < keep; ++i) total += expected[order[i]];
    std::size_t kept = 0;
    while (kept < keep && (kept == 0 || mass < static_cast<double>(params.top_p) * total))
      mass += expected[order[kept++]];
    for (std::size_t i = kept; i < 12; ++i) expected[order[i]] = 0.0;
    std::vector<int> counts(12, 0);
    for (int draw = 0; draw < kDraws; ++draw)
      ++counts[static_cast<std::size_t>(sampler.sample(logits, params, 9, draw).token)];
    for (std::size_t i = 0; i < 12; ++i) {
      double p = expected[i] / mass;
      EXPECT_NEAR(counts[i], p * kDraws, 5.0 * std::sqrt(kDraws * p * (1.0 - p)) + 1e-9) << "token " << i;
    }
  }
}

TEST(Sampler, ADrawIsAFunctionOfSeedAndPosition) {
  std::vector<float> logits = random_logits(1000, 1);
  Sampler sampler(1000), other(1000);
  SamplingParams params{.temperature = 1.0f, .top_p = 0.9f};
  int same_seed = 0, same_position = 0;
  for (int i = 0; i < 200; ++i) {
    std::int32_t token = sampler.sample(logits, params, 1, i).token;
    EXPECT_EQ(token, other.sample(logits, params, 1, i).token);
    same_seed += token == other.sample(logits, params, 1, i + 1).token;
    same_position += token == other.sample(logits, params, 2, i).token;
  }
  EXPECT_LT(same_seed, 40);
  EXPECT_LT(same_position, 40);
}

TEST(Sampler, CutsOverALargeVocabularyMatchAFullSort) {
  std::vector<float> logits = random_logits(49152, 8);
  for (std::size_t i = 0; i < logits.size(); i += 3) logits[i] = std::round(logits[i]);  // ties
  Sampler sampler(49152);
  std::vector<std::int32_t> order(logits.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  std::vector<double> p = softmax(logits, 0.9);
  double total = 0.0, mass = 0.0;
  for (int i = 0; i < 5000; ++i) total += p[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])];
  std::size_t kept = 0;
  while (mass < 0.6 * total) mass += p[static_cast<std::size_t>(order[kept++])];
  std::vector<std::int32_t> allowed(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept) + 1);
  std::sort(allowed.begin(), allowed.end());
  for (int draw = 0; draw < 300; ++draw) {
    std::int32_t token = sampler.sample(logits, {.temperature = 0.9f, .top_k = 5000, .top_p = 0.6f}, 4, draw).token;
    EXPECT_TRUE(std::binary_search(allowed.begin(), allowed.end(), token));
  }
}

}  // namespace
}  // namespace vortex::engine
