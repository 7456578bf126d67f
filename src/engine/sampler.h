// From logits to a token: greedy, or drawn with temperature, top-k and top-p. A draw is a function of (seed, position)
// and the logits alone, so it does not depend on what else is in the batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace vortex::engine {

struct Sampled {
  std::int32_t token = -1;  // -1: the logits are not numbers
  float logprob = 0.0f;     // under softmax(logits), before temperature and cuts
};

// Scratch of one thread, sized for a vocabulary.
class Sampler {
 public:
  explicit Sampler(std::int64_t vocabulary);
  // seed: of the engine and the request together; position: of the token that is drawn. Ties go to the lower token.
  Sampled sample(std::span<const float> logits, const SamplingParams&, std::uint64_t seed, std::int64_t position);

 private:
  std::int32_t draw(std::span<const float> logits, const SamplingParams&, float peak, double uniform);

  std::vector<float> weights_;       // [vocabulary]
  std::vector<std::int32_t> order_;  // [vocabulary]
};

// A well mixed number in [0, 1) of its two operands.
double uniform_of(std::uint64_t seed, std::uint64_t position);

// The likeliest token, the lowest among equals; -1 when there is a NaN.
std::int32_t likeliest(std::span<const float> logits);

}  // namespace vortex::engine
