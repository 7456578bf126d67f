// The weight formats as files store them: sizes, checks and conversion of rows to float.
#pragma once

#include "kernels/cpu/linear.h"

namespace vortex::kernels::detail {

// Columns of one block (1 for floats) and its bytes in a file.
std::int64_t block_columns(WeightFormat);
std::int64_t block_bytes(WeightFormat);

// UserError("linear", …) unless the view has data, at least one row and a whole number of blocks in a row.
void check_view(const char* where, const WeightView&);

// out[c] = row r of the matrix, c in [0, columns).
void decode_row(const WeightView&, std::int64_t row, float* out);

}  // namespace vortex::kernels::detail
