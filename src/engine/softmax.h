// Whole-vocabulary passes that sampling is made of, in an order of additions that depends on the size alone.
#pragma once

#include <cstdint>
#include <span>

namespace vortex::engine {

// The likeliest token, the lowest among equals; -1 when there is a NaN.
std::int32_t likeliest(std::span<const float> logits);

// weights[i] = exp(slope * (logits[i] - peak)), within 3e-7 of it and never below exp(-87); returns their sum. peak is
// the largest of the logits.
double exponentials(std::span<const float> logits, float peak, float slope, float* weights);

}  // namespace vortex::engine
