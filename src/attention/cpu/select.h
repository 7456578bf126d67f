// The exact top-k of a row's scores: ties go to the lower index, NaN ranks below every number, the result ascends.
#pragma once

#include <cstdint>

namespace vortex::attention {

// Writes first + i for the k best i in [0, count), ascending, to `out`. keys: [count] to work in. k <= count.
void select_top(const float* scores, std::int64_t count, std::int64_t k, std::int32_t first, std::int32_t* out,
                std::uint32_t* keys);

}  // namespace vortex::attention
