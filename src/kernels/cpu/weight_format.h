// The weight formats as files store them: sizes, checks, reading of blocks and conversion of rows to float. Formats of
// integers are those of GGUF, bit for bit; q4_k, q5_k and q6_k come in super-blocks of 256 columns.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/cpu/linear.h"
#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {

// Columns of one block or super-block (1 for floats) and its bytes in a file.
std::int64_t block_columns(WeightFormat);
std::int64_t block_bytes(WeightFormat);

// The panel a format of integers is repacked into; bits = 0 for floats.
PanelLayout layout_of(WeightFormat);

// UserError(where, …) unless the view has data, at least one row, a whole number of blocks in a row, and a size that a
// machine can address.
void check_view(const char* where, const WeightView&);

// 32 columns of one row. Weight i is head_a · a[i / 16] · (stored[i] − zero) + head_b · b; formats without super-blocks
// have a = b = 1.
struct Block {
  std::array<std::uint8_t, 32> stored;
  std::uint16_t head_a = 0, head_b = 0;  // float16
  std::int8_t a[2] = {1, 1}, b = 1;
};
Block read_block(WeightFormat, const std::uint8_t* row, std::int64_t block);

// out[c] = row r of the matrix, c in [0, columns).
void decode_row(const WeightView&, std::int64_t row, float* out);

}  // namespace vortex::kernels::detail
