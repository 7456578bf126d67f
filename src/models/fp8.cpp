#include "models/fp8.h"

#include <vortex/error.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "base/arithmetic.h"
#include "base/text.h"

namespace vortex::models {

float fp8_to_float(std::uint8_t byte) {
  if ((byte & 0x7f) == 0x7f) return std::numeric_limits<float>::quiet_NaN();
  const std::uint32_t bits = static_cast<std::uint32_t>(byte & 0x80) << 24 | static_cast<std::uint32_t>(byte & 0x7f)
                                                                                 << 20;
  return std::bit_cast<float>(bits) * 0x1p120f;  // the exponent's bias is 7, not 127; right for subnormals too
}

void fp8_to_bfloat16(const Fp8Matrix& m, BFloat16* out) {
  auto blocks = [](std::int64_t size, std::int64_t block) { return block < 1 ? 0 : ceil_div(size, block); };
  if (m.block_rows < 1 || m.block_columns < 1 || m.scale_rows != blocks(m.rows, m.block_rows) ||
      m.scale_columns != blocks(m.columns, m.block_columns))
    throw UserError("fp8",
                    concat("scales [", blocks(m.rows, m.block_rows), ", ", blocks(m.columns, m.block_columns),
                           "] for blocks of [", m.block_rows, ", ", m.block_columns, "]"),
                    concat("got [", m.scale_rows, ", ", m.scale_columns, "]"),
                    "check the file's quantisation settings");
  for (std::int64_t r = 0; r < m.rows; ++r)
    for (std::int64_t begin = 0; begin < m.columns; begin += m.block_columns) {
      const float scale = m.scales[r / m.block_rows * m.scale_columns + begin / m.block_columns];
      const std::int64_t end = std::min(m.columns, begin + m.block_columns);
      for (std::int64_t c = begin; c < end; ++c)
        out[r * m.columns + c] = to_bfloat16(fp8_to_float(m.data[r * m.columns + c]) * scale);
    }
}

}  // namespace vortex::models
