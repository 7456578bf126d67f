#include "kernels/cpu/linear_pack.h"

#include <array>
#include <cstring>

#include "kernels/cpu/linear_kernel.h"
#include "kernels/cpu/weight_format.h"

namespace vortex::kernels::detail {

namespace {

using RowPointers = std::array<const std::uint8_t*, kPanelRows>;  // null for padding

void put16(std::uint8_t* to, std::uint16_t bits) { std::memcpy(to, &bits, 2); }

// One row's integers of a block; `to` is the block's first byte, moved on by four bytes a row.
void put_stored(int bits, const std::array<std::uint8_t, 32>& q, std::uint8_t* to) {
  for (std::size_t c = 0; c < 32; ++c) {
    const std::size_t half = c / 16, group = c / 4 % 4, column = c % 4;
    if (bits == 8) {
      to[64 * (4 * half + group) + column] = q[c];
      continue;
    }
    to[64 * group + column] |= static_cast<std::uint8_t>((q[c] & 15) << (4 * half));
    if (bits == 5) to[256 + column] |= static_cast<std::uint8_t>((q[c] >> 4) << (4 * half + group));
    if (bits == 6) to[256 + 64 * half + column] |= static_cast<std::uint8_t>((q[c] >> 4) << (2 * group));
  }
}

void pack_integers(WeightFormat format, const RowPointers& rows, std::int64_t columns, std::uint8_t* panel) {
  const PanelLayout layout = layout_of(format);
  std::memset(panel, 0, static_cast<std::size_t>(panel_bytes(format, columns)));
  for (std::int64_t b = 0; b < columns / kBlock; ++b) {
    std::uint8_t* head = layout.super ? nullptr : panel + 64 * layout.bits;
    if (layout.super && b % kSuper == 0) {
      head = panel;
      panel += layout.head_bytes;
    }
    std::uint8_t* scales = panel + 64 * layout.bits;
    for (std::size_t r = 0; r < kPanelRows; ++r) {
      if (!rows[r]) continue;
      const Block block = read_block(format, rows[r], b);
      put_stored(layout.bits, block.stored, panel + 4 * r);
      if (head) put16(head + 2 * r, block.head_a);
      if (head && layout.minima) put16(head + 2 * kPanelRows + 2 * r, block.head_b);
      if (layout.super) {
        scales[r] = static_cast<std::uint8_t>(block.a[0]);
        scales[kPanelRows + r] = static_cast<std::uint8_t>(layout.minima ? block.b : block.a[1]);
      }
    }
    panel += layout.block_bytes;
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

std::int64_t panel_bytes(WeightFormat format, std::int64_t columns) {
  const PanelLayout layout = layout_of(format);
  if (layout.bits == 0) return kPanelRows * row_bytes(format, columns);
  const std::int64_t blocks = columns / kBlock;
  return blocks * layout.block_bytes + blocks / kSuper * layout.head_bytes;
}

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
  if (layout_of(format).bits == 0)
    pack_floats(rows, columns, static_cast<std::size_t>(block_bytes(format)), panel);
  else
    pack_integers(format, rows, columns, panel);
}

}  // namespace vortex::kernels::detail
