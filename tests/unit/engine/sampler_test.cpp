#include "engine/sampler.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

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

Sampled drawn(Sampler& sampler, std::span<const float> logits, const SamplingParams& params, std::uint64_t seed,
              int position, const History& history = {}) {
  return sampler.sample(logits, params, history, uniform_of(seed, static_cast<std::uint64_t>(position)));
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
  EXPECT_EQ(sampler.sample(logits, {}, {}, 0.5).token, 0);
  logits[37] = logits[41] = 2.0f;
  EXPECT_EQ(sampler.sample(logits, {}, {}, 0.5).token, 37);
  logits[3] = -std::numeric_limits<float>::infinity();
  EXPECT_EQ(sampler.sample(logits, {}, {}, 0.5).token, 37);
  logits[49] = std::nanf("");
  EXPECT_EQ(sampler.sample(logits, {}, {}, 0.5).token, -1);
}

TEST(Sampler, TheSmallestTemperaturesAreGreedy) {
  Sampler sampler(100);
  std::vector<float> logits = random_logits(100, 8);
  const std::int32_t best = sampler.sample(logits, {}, {}, 0.5).token;
  for (float temperature : {1e-20f, 1e-39f, std::numeric_limits<float>::denorm_min()})
    for (std::int32_t top_k : {0, 5})
      for (int position = 0; position < 5; ++position)
        EXPECT_EQ(drawn(sampler, logits, {.temperature = temperature, .top_k = top_k}, 3, position).token, best)
            << temperature;
}

TEST(Sampler, LogProbabilitiesAreThoseOfTheSoftmax) {
  for (std::size_t size : {1u, 15u, 1000u, 49152u}) {
    Sampler sampler(static_cast<std::int64_t>(size));
    std::vector<float> logits = random_logits(size, size);
    std::vector<double> expected = softmax(logits);
    for (float temperature : {0.0f, 0.7f}) {
      Sampled it = drawn(sampler, logits, {.temperature = temperature}, 5, 17);
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
      ++counts[static_cast<std::size_t>(drawn(sampler, logits, params, 9, draw).token)];
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
    std::int32_t token = drawn(sampler, logits, params, 1, i).token;
    EXPECT_EQ(token, drawn(other, logits, params, 1, i).token);
    same_seed += token == drawn(other, logits, params, 1, i + 1).token;
    same_position += token == drawn(other, logits, params, 2, i).token;
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
    std::int32_t token = drawn(sampler, logits, {.temperature = 0.9f, .top_k = 5000, .top_p = 0.6f}, 4, draw).token;
    EXPECT_TRUE(std::binary_search(allowed.begin(), allowed.end(), token));
  }
}

TEST(Sampler, TheLikeliestTokensAreReported) {
  std::vector<float> logits = random_logits(300, 2);
  logits[250] = logits[7] = *std::max_element(logits.begin(), logits.end()) + 1.0f;
  std::vector<double> p = softmax(logits);
  Sampler sampler(300);
  Sampled it = sampler.sample(logits, {.logit_bias = {{7, -std::numeric_limits<float>::infinity()}}, .top_logprobs = 5},
                              {}, 0.5);
  EXPECT_EQ(it.token, 250);
  ASSERT_EQ(it.top.size(), 5u);
  EXPECT_EQ(it.top[0].token, 7) << "log-probabilities are the model's own: a ban does not change them";
  EXPECT_EQ(it.top[1], (TokenLogprob{250, it.logprob}));
  for (std::size_t i = 0; i < 5; ++i)
    EXPECT_NEAR(it.top[i].logprob, std::log(p[static_cast<std::size_t>(it.top[i].token)]), 2e-6);
  for (std::size_t i = 2; i < 5; ++i) EXPECT_LT(it.top[i].logprob, it.top[i - 1].logprob);
  EXPECT_EQ(sampler.sample(logits, {.top_logprobs = 1000}, {}, 0.5).top.size(), 300u);
}

TEST(Sampler, PenaltiesLeaveNothingBehind) {
  std::vector<float> logits = random_logits(40, 6);
  Sampler sampler(40);
  std::vector<std::int32_t> said = {3, 5, 3, 3, 9};
  SamplingParams penalties{.temperature = 1.0f, .repetition_penalty = 1.3f, .frequency_penalty = 0.4f};
  for (int position = 0; position < 50; ++position) {
    Sampler fresh(40);
    EXPECT_EQ(drawn(sampler, logits, penalties, 1, position, {.tokens = said, .prompt = 2}).token,
              drawn(fresh, logits, penalties, 1, position, {.tokens = said, .prompt = 2}).token);
    EXPECT_EQ(drawn(sampler, logits, {.temperature = 1.0f}, 1, position, {.tokens = said, .prompt = 2}).token,
              drawn(fresh, logits, {.temperature = 1.0f}, 1, position).token);
  }
}

TEST(Sampler, WhenEverythingIsBannedThereIsNoToken) {
  std::vector<float> logits(3, 1.0f);
  SamplingParams ban;
  for (std::int32_t token = 0; token < 3; ++token)
    ban.logit_bias.emplace_back(token, -std::numeric_limits<float>::infinity());
  Sampled it = Sampler(3).sample(logits, ban, {}, 0.5);
  EXPECT_EQ(it.token, -1);
  EXPECT_TRUE(it.banned);
  logits[1] = std::nanf("");
  EXPECT_FALSE(Sampler(3).sample(logits, ban, {}, 0.5).banned) << "that is the model's failure";
}

TEST(Sampler, WhatIsRefusedInWords) {
  auto words = [](const SamplingParams& params) -> std::string {
    try {
      params.validate(50);
    } catch (const UserError& error) {
      return error.what();
    }
    return "";
  };
  const float nan = std::nanf(""), infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(words({.logit_bias = {{49, -infinity}}}), "");
  EXPECT_EQ(words({.temperature = nan}), "[sampling] a temperature from 0 (greedy) to 100; nan; give another");
  EXPECT_EQ(words({.top_k = -1}), "[sampling] a top_k of at least 0 (0: all tokens); -1; give another");
  EXPECT_EQ(words({.typical_p = 0.0f}), "[sampling] a typical_p above 0 and at most 1; 0; give another");
  EXPECT_EQ(words({.top_p = 1.5f}), "[sampling] a top_p above 0 and at most 1; 1.5; give another");
  EXPECT_EQ(words({.min_p = -1.0f}), "[sampling] a min_p from 0 to 1; -1; give another");
  EXPECT_EQ(words({.repetition_penalty = 0.0f}), "[sampling] a finite repetition_penalty above 0; 0; give another");
  EXPECT_EQ(words({.presence_penalty = infinity}), "[sampling] a finite presence_penalty; inf; give another");
  EXPECT_EQ(words({.frequency_penalty = nan}), "[sampling] a finite frequency_penalty; nan; give another");
  EXPECT_EQ(words({.top_logprobs = 1001}), "[sampling] top_logprobs from 0 to 1000; 1001; give another");
  EXPECT_EQ(
      words({.logit_bias = {{50, 1.0f}}}),
      "[sampling] a logit_bias of tokens below the vocabulary of 50; token 50; take the tokens from the model's own "
      "tokenizer");
  EXPECT_EQ(words({.logit_bias = {{4, infinity}}}),
            "[sampling] a logit_bias that is a finite number, or -inf, which bans the token; inf for token 4; give "
            "another");
}

}  // namespace
}  // namespace vortex::engine
