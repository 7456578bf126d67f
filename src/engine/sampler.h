// From logits to a token, as SamplingParams (engine.h) defines it. What is chosen is a function of the logits, the
// request's own tokens and one number in [0, 1): it does not depend on what else is in the batch.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace vortex::engine {

struct Sampled {
  std::int32_t token = -1;  // -1: there is none to choose
  float logprob = 0.0f;     // under softmax(logits), before anything changed them
  bool banned = false;      // the logits are numbers, and logit_bias bans every token that they allow
  std::vector<TokenLogprob> top = {};
};

// A request's tokens so far; the first `prompt` of them are its prompt.
struct History {
  std::span<const std::int32_t> tokens = {};
  std::int64_t prompt = 0;
};

// Scratch of one thread, sized for a vocabulary.
class Sampler {
 public:
  explicit Sampler(std::int64_t vocabulary);
  // logits: [vocabulary]. uniform decides a draw: with the remaining tokens in ascending order, it takes the first at
  // which the sum of their probabilities exceeds uniform.
  Sampled sample(std::span<const float> logits, const SamplingParams&, const History&, double uniform);

 private:
  std::span<const float> changed(std::span<const float> logits, const SamplingParams&, const History&);
  void penalize(const SamplingParams&, const History&);
  std::int32_t draw(std::span<const float> logits, const SamplingParams&, float peak, double uniform);
  std::int32_t draw_from_all(std::span<const float> logits, double target) const;
  void gather(std::span<const float> logits, const SamplingParams&, float peak, float slope, double total);
  void gather_likeliest(std::span<const float> logits, std::size_t count);
  void keep_typical(std::span<const float> logits, double share, float peak, double slope);
  template <class Before>
  void keep_share(double share, double total, Before before);
  double weight_of_kept() const;

  std::vector<float> weights_;        // [vocabulary]: exp(z - peak) over the temperature
  std::vector<std::int32_t> kept_;    // tokens that remain, at most [vocabulary]
  std::vector<float> changed_;        // [vocabulary], once a request changes logits
  std::vector<std::int32_t> counts_;  // [vocabulary], once a request has penalties; zeros between calls
  std::vector<double> distances_;     // [vocabulary], once a request asks for typical_p
};

// A well mixed number in [0, 1) of its two operands.
double uniform_of(std::uint64_t seed, std::uint64_t position);

}  // namespace vortex::engine
