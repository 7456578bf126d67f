// Tokens drawn on the device beside those of the engine's sampler, from the same logits with the same numbers.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <random>

#include "engine/sampler.h"
#include "gpu/open.h"
#include "kernels/cuda/model.h"

namespace vortex::gpu_tests {
namespace {

using device::Array;

struct Logits {
  const char* name;
  float (*draw)(std::mt19937&);
};

float normal(std::mt19937& random) { return std::normal_distribution<float>()(random); }

const Logits kLogits[] = {
    {"flat", normal},
    {"peaked", [](std::mt19937& random) { return 4.0f * normal(random); }},
    {"one token", [](std::mt19937& random) { return random() % 20000 == 0 ? 30.0f + normal(random) : normal(random); }},
    {"many ties", [](std::mt19937& random) { return static_cast<float>(random() % 24) * 0.5f - 3.0f; }},
    {"all equal", [](std::mt19937&) { return -0.25f; }},
    {"some banned",
     [](std::mt19937& random) {
       return random() % 3 == 0 ? -std::numeric_limits<float>::infinity() : 3.0f * normal(random);
     }},
};

engine::SamplingParams params_of(float temperature, std::int32_t top_k, float top_p, float min_p) {
  engine::SamplingParams out;
  out.temperature = temperature, out.top_k = top_k, out.top_p = top_p, out.min_p = min_p;
  return out;
}

TEST(Draw, TokensAreThoseOfTheSampler) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const auto stream = device->make_stream();
  const kernels::CudaModelKernels kernels(*device);
  const std::vector<engine::SamplingParams> all = {
      params_of(1.0f, 0, 1.0f, 0.0f),    params_of(0.7f, 0, 0.95f, 0.0f), params_of(1.0f, 50, 1.0f, 0.0f),
      params_of(0.8f, 50, 0.9f, 0.0f),   params_of(1.3f, 0, 1.0f, 0.05f), params_of(0.6f, 20, 0.95f, 0.1f),
      params_of(2.0f, 3000, 0.5f, 0.0f), params_of(1e-3f, 0, 0.9f, 0.0f), params_of(1.0f, 2, 1.0f, 0.0f),
      params_of(1.0f, 0, 1e-6f, 0.0f),   params_of(0.0f, 5, 0.5f, 0.0f)};
  std::int64_t drawn = 0, different = 0;
  float worst = 0;
  for (const int vocabulary : {1000, 151936}) {
    engine::Sampler sampler(vocabulary);
    for (const Logits& kind : kLogits) {
      std::mt19937 random(static_cast<unsigned>(vocabulary));
      constexpr int kRows = 44;
      std::vector<float> logits(static_cast<std::size_t>(kRows) * static_cast<std::size_t>(vocabulary));
      for (float& x : logits) x = kind.draw(random);
      std::vector<cuda::Draw> draws;
      std::vector<double> uniforms;
      for (int row = 0; row < kRows; ++row) {
        const engine::SamplingParams& p = all[static_cast<std::size_t>(row) % all.size()];
        uniforms.push_back(row < 4 ? 0.0 : row < 8 ? 1.0 - 0x1p-53 : static_cast<double>(random()) * 0x1p-32);
        draws.push_back({.slope = p.temperature > 0.0f ? 1.0f / p.temperature : 0.0f,
                         .top_p = p.top_p,
                         .least = p.min_p > 0.0f ? std::log(p.min_p) : -std::numeric_limits<float>::infinity(),
                         .top_k = p.top_k,
                         .uniform = uniforms.back()});
      }
      const Array<float> device_logits = device::upload(device, *stream, logits);
      const Array<cuda::Draw> device_draws = device::upload(device, *stream, draws);
      Array<cuda::ChosenToken> chosen(device, kRows);
      chosen.fill(*stream, 0xff);
      kernels.choose(*stream, {device_logits.data(), vocabulary, vocabulary, chosen.data()}, kRows);
      kernels.draw(*stream, {device_logits.data(), vocabulary, vocabulary, device_draws.data(), chosen.data()}, kRows);
      const std::vector<cuda::ChosenToken> came = chosen.download(*stream);
      for (int row = 0; row < kRows; ++row) {
        const auto at = static_cast<std::size_t>(row);
        const std::span<const float> of_row(logits.data() + at * static_cast<std::size_t>(vocabulary),
                                            static_cast<std::size_t>(vocabulary));
        const engine::Sampled expected = sampler.sample(of_row, all[at % all.size()], {}, uniforms[at]);
        ++drawn;
        if (came[at].token != expected.token) {
          ++different;
          std::printf("%s, %d tokens, row %d: %d, the sampler's is %d\n", kind.name, vocabulary, row, came[at].token,
                      expected.token);
          continue;
        }
        worst = std::max(worst, std::abs(came[at].logprob - expected.logprob));
      }
    }
  }
  std::printf("MEASURED draws: %lld of %lld tokens are not the sampler's, log-probabilities within %.1e\n",
              static_cast<long long>(different), static_cast<long long>(drawn), static_cast<double>(worst));
  EXPECT_LE(different, drawn / 50) << "a number may fall on a boundary within rounding";
  EXPECT_LT(worst, 1e-3f);
  // What it takes, 64 rows at once.
  constexpr int kRows = 64, kVocabulary = 151936;
  std::mt19937 random(1);
  std::vector<float> logits(static_cast<std::size_t>(kRows) * kVocabulary);
  for (float& x : logits) x = 4.0f * normal(random);
  const Array<float> device_logits = device::upload(device, *stream, logits);
  Array<cuda::ChosenToken> chosen(device, kRows);
  const auto begin = device->make_event(), end = device->make_event();
  const auto microseconds = [&](const auto& launch) {
    constexpr int kRepeats = 20;
    for (int i = 0; i < kRepeats + 3; ++i) {
      if (i == 3) stream->record(*begin);
      launch();
    }
    stream->record(*end);
    return device->milliseconds(*begin, *end) * 1000 / kRepeats;
  };
  for (const int rows : {1, 8, kRows}) {
    const auto choose = [&] {
      kernels.choose(*stream, {device_logits.data(), kVocabulary, kVocabulary, chosen.data()}, rows);
    };
    std::printf("MEASURED choose, %d rows: %.1f us\n", rows, microseconds(choose));
    for (const cuda::Draw& of : {cuda::Draw{1.0f, 1.0f, -INFINITY, 0, 0.5}, cuda::Draw{1.4f, 0.95f, -INFINITY, 0, 0.5},
                                 cuda::Draw{1.2f, 0.9f, -INFINITY, 50, 0.5}}) {
      const Array<cuda::Draw> draws = device::upload(device, *stream, std::vector<cuda::Draw>(kRows, of));
      const double took = microseconds([&] {
        choose();
        kernels.draw(*stream, {device_logits.data(), kVocabulary, kVocabulary, draws.data(), chosen.data()}, rows);
      });
      std::printf("MEASURED choose and draw, %d rows, top_p %.2f, top_k %d: %.1f us\n", rows,
                  static_cast<double>(of.top_p), of.top_k, took);
    }
  }
}

}  // namespace
}  // namespace vortex::gpu_tests
