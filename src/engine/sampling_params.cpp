// What sampling accepts, in words.
#include <vortex/error.h>

#include <cmath>
#include <limits>

#include "base/text.h"
#include "engine/engine.h"

namespace vortex::engine {

namespace {

constexpr std::int32_t kMostLogprobs = 1000;

void require(bool holds, const char* what, double came) {
  if (!holds) throw UserError("sampling", what, print_number(came), "give another");
}

}  // namespace

void SamplingParams::validate(std::int64_t vocabulary) const {
  auto number = [](float x) { return static_cast<double>(x); };
  require(temperature >= 0.0f && temperature <= 100.0f, "a temperature from 0 (greedy) to 100", number(temperature));
  require(top_k >= 0, "a top_k of at least 0 (0: all tokens)", top_k);
  require(typical_p > 0.0f && typical_p <= 1.0f, "a typical_p above 0 and at most 1", number(typical_p));
  require(top_p > 0.0f && top_p <= 1.0f, "a top_p above 0 and at most 1", number(top_p));
  require(min_p >= 0.0f && min_p <= 1.0f, "a min_p from 0 to 1", number(min_p));
  require(repetition_penalty > 0.0f && std::isfinite(repetition_penalty), "a finite repetition_penalty above 0",
          number(repetition_penalty));
  require(std::isfinite(presence_penalty), "a finite presence_penalty", number(presence_penalty));
  require(std::isfinite(frequency_penalty), "a finite frequency_penalty", number(frequency_penalty));
  require(top_logprobs >= 0 && top_logprobs <= kMostLogprobs, "top_logprobs from 0 to 1000", top_logprobs);
  for (const auto& [token, bias] : logit_bias) {
    if (token < 0 || token >= vocabulary)
      throw UserError("sampling", concat("a logit_bias of tokens below the vocabulary of ", vocabulary),
                      concat("token ", token), "take the tokens from the model's own tokenizer");
    if (!(bias < std::numeric_limits<float>::infinity()))  // NaN too
      throw UserError("sampling", "a logit_bias that is a finite number, or -inf, which bans the token",
                      concat(print_number(number(bias)), " for token ", token), "give another");
  }
}

namespace {

bool takes_logits_as_they_are(const SamplingParams& p) {
  return p.repetition_penalty == 1.0f && p.presence_penalty == 0.0f && p.frequency_penalty == 0.0f &&
         p.logit_bias.empty() && p.top_logprobs == 0;
}

}  // namespace

bool SamplingParams::takes_likeliest() const {
  return (temperature == 0.0f || top_k == 1) && takes_logits_as_they_are(*this);
}

bool SamplingParams::draws_plainly() const {
  return temperature > 0.0f && top_k != 1 && typical_p >= 1.0f && takes_logits_as_they_are(*this);
}

}  // namespace vortex::engine
