#include "kernels/cpu/linear_pack.h"

#include <array>
#include <cstring>

#include "kernels/cpu/linear_kernel.h"
#include "kernels/cpu/weight_format.h"

namespace vortex::kernels::detail {

namespace {

using RowPointers = std::array<const std::uint8_t*, kPanelRows>;  // null for padding

void copy16(std::uint8_t* to, const std::uint8_t* from) { std::memcpy(to, from, 2); }

void pack_q8_0(const RowPointers& rows, std::int64_t blocks, std::uint8_t* panel) {
  for (std::int64_t b = 0; b < blocks; ++b, panel += kQ8BlockBytes)
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      const std::uint8_t* block = rows[r] ? rows[r] + b * 34 : nullptr;
      for (std::size_t c = 0; c < 32; ++c)  // flipping the sign bit adds 128
        panel[c / 4 * 64 + r * 4 + c % 4] = block ? block[2 + c] ^ 0x80 : 0x80;
      if (block)
        copy16(panel + 512 + 2 * r, block);
      else
        std::memset(panel + 512 + 2 * r, 0, 2);
    }
}

void pack_q4_1(const RowPointers& rows, std::int64_t blocks, std::uint8_t* panel) {
  for (std::int64_t b = 0; b < blocks; ++b, panel += kQ4BlockBytes)
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      const std::uint8_t* block = rows[r] ? rows[r] + b * 20 : nullptr;
      for (std::size_t c = 0; c < 16; ++c)  // a byte of the file holds columns c and c + 16, as it does here
        panel[c / 4 * 64 + r * 4 + c % 4] = block ? block[4 + c] : 0;
      if (block) {
        copy16(panel + 256 + 2 * r, block);
        copy16(panel + 288 + 2 * r, block + 2);
      } else {
        std::memset(panel + 256 + 2 * r, 0, 2);
        std::memset(panel + 288 + 2 * r, 0, 2);
      }
    }
}

void pack_floats(const RowPointers& rows, std::int64_t columns, std::size_t size, std::uint8_t* panel) {
  for (std::int64_t c = 0; c < columns; ++c)
    for (std::size_t r = 0; r < kPanelRows; ++r, panel += size) {
      if (rows[r])
        std::memcpy(panel, rows[r] + static_cast<std::size_t>(c) * size, size);
      else
        std::memset(panel, 0, size);
    }
}

}  // namespace

std::int64_t panel_bytes(WeightFormat format, std::int64_t columns) { return kPanelRows * row_bytes(format, columns); }

void pack_panel(std::span<const WeightView> matrices, std::int64_t index, std::uint8_t* panel) {
  RowPointers rows{};
  const std::int64_t columns = matrices[0].columns;
  const WeightFormat format = matrices[0].format;
  std::int64_t first = 0;  // stacked row of the matrix
  for (const WeightView& matrix : matrices) {
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      const std::int64_t row = index * kPanelRows + static_cast<std::int64_t>(r) - first;
      if (row >= 0 && row < matrix.rows)
        rows[r] = static_cast<const std::uint8_t*>(matrix.data) + row * row_bytes(format, columns);
    }
    first += matrix.rows;
  }
  switch (format) {
    case WeightFormat::q8_0:
      return pack_q8_0(rows, columns / kBlock, panel);
    case WeightFormat::q4_1:
      return pack_q4_1(rows, columns / kBlock, panel);
    case WeightFormat::f32:
      return pack_floats(rows, columns, 4, panel);
    case WeightFormat::f16:
    case WeightFormat::bf16:
      return pack_floats(rows, columns, 2, panel);
  }
}

}  // namespace vortex::kernels::detail
