// Weights in fp8 (e4m3: 4 bits of exponent, 3 of mantissa, no infinities) with a scale for each block, as bfloat16
// rows.
#pragma once

#include <cstdint>

#include "base/float16.h"

namespace vortex::models {

struct Fp8Matrix {
  const std::uint8_t* data = nullptr;  // [rows, columns]
  std::int64_t rows = 0, columns = 0;
  const float* scales = nullptr;  // [scale_rows, scale_columns], one for each block of block_rows × block_columns
  std::int64_t scale_rows = 0, scale_columns = 0, block_rows = 0, block_columns = 0;
};

float fp8_to_float(std::uint8_t);

// out [rows, columns]. UserError unless the scales are as many as there are blocks.
void fp8_to_bfloat16(const Fp8Matrix&, BFloat16* out);

}  // namespace vortex::models
