// Vectors between floats and what K and V are stored as. Rounds each vector alone; knows no pages.
#pragma once

#include <cstdint>

#include "base/float16.h"

namespace vortex::attention {

// Stores count floats as bf16, rounded to nearest even.
void store_bfloat16(const float* from, BFloat16* to, std::int64_t count);
// Stores count floats as integers: x · (127 / largest) to the nearest, ties to even, and the scale largest / 127. All
// below 1e-30: zeros. A value that is no number, or infinite, makes the scale NaN.
void store_int8(const float* from, std::int8_t* to, float* scale, std::int64_t count);
// to[i] = scale · from[i], as bf16.
void load_int8(const std::int8_t* from, float scale, BFloat16* to, std::int64_t count);

}  // namespace vortex::attention
