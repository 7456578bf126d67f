#include "kernels/cpu/weight_format.h"

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/float16.h"
#include "base/text.h"

namespace vortex::kernels {

namespace {

constexpr detail::PanelLayout panel(int bits, int zero, bool minima, bool super) {
  const std::int64_t scales = super ? 2 : minima ? 4 : 2;  // bytes a row and block
  return {bits,
          zero,
          minima,
          super,
          64 * bits + detail::kPanelRows * scales,
          super ? detail::kPanelRows * (minima ? 4 : 2) : 0};
}

struct Row {
  const char* name;
  std::int64_t columns, bytes;  // of a block in a file
  detail::PanelLayout layout;
};
constexpr Row kRows[] = {
    {"f32", 1, 4, {}},
    {"f16", 1, 2, {}},
    {"bf16", 1, 2, {}},
    {"q8_0", 32, 34, panel(8, 128, false, false)},
    {"q4_0", 32, 18, panel(4, 8, false, false)},
    {"q4_1", 32, 20, panel(4, 0, true, false)},
    {"q5_0", 32, 22, panel(5, 16, false, false)},
    {"q5_1", 32, 24, panel(5, 0, true, false)},
    {"q4_k", 256, 144, panel(4, 0, true, true)},
    {"q5_k", 256, 176, panel(5, 0, true, true)},
    {"q6_k", 256, 210, panel(6, 32, false, true)},
};
static_assert(std::size(kRows) == std::size(kWeightFormats));

const Row& row_of(WeightFormat format) { return kRows[static_cast<std::size_t>(format)]; }

}  // namespace

const char* name_of(WeightFormat format) { return row_of(format).name; }

WeightFormat format_of(std::string_view name) {
  std::vector<std::string> known;
  for (WeightFormat format : kWeightFormats) {
    if (name == name_of(format)) return format;
    known.emplace_back(name_of(format));
  }
  throw UserError("weight format", concat("one of ", join(known, ", ")), concat("got ", name), "convert the weights");
}

std::int64_t row_bytes(WeightFormat format, std::int64_t columns) {
  const std::int64_t block = detail::block_columns(format), bytes = detail::block_bytes(format);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max() / 256;
  if (columns <= 0 || columns % block != 0 || columns / block > kMost / bytes)
    throw UserError("linear",
                    block == 1 ? "rows of at least one column"
                               : concat(name_of(format), " rows of a multiple of ", block, " columns"),
                    concat("got ", columns, " columns"),
                    block == 1 ? "check the shape of the weight" : "store this weight as f16 or bf16");
  return columns / block * bytes;
}

void gather_rows(const WeightView& matrix, const std::int32_t* tokens, std::int64_t count, float* out,
                 ThreadPool& pool) {
  detail::check_view("gather_rows", matrix);
  for (std::int64_t t = 0; t < count; ++t)
    if (tokens[t] < 0 || tokens[t] >= matrix.rows)
      throw UserError("gather_rows", concat("tokens in [0, ", matrix.rows, ")"),
                      concat("got ", tokens[t], " at index ", t), "check that the tokenizer belongs to the model");
  constexpr std::int64_t kChunk = 16;
  pool.for_each((count + kChunk - 1) / kChunk, [&](std::int64_t chunk, int) {
    for (std::int64_t t = chunk * kChunk; t < count && t < (chunk + 1) * kChunk; ++t)
      detail::decode_row(matrix, tokens[t], out + t * matrix.columns);
  });
}

namespace detail {

std::int64_t block_columns(WeightFormat format) { return row_of(format).columns; }
std::int64_t block_bytes(WeightFormat format) { return row_of(format).bytes; }
PanelLayout layout_of(WeightFormat format) { return row_of(format).layout; }

void check_view(const char* where, const WeightView& view) {
  const std::int64_t bytes = row_bytes(view.format, view.columns);
  if (!view.data || view.rows <= 0)
    throw UserError(where, "a matrix with data and at least one row",
                    concat("got ", name_of(view.format), " [", view.rows, ", ", view.columns, "]",
                           view.data ? "" : " without data"),
                    "check that the weight file is complete");
  if (view.rows > (std::int64_t{1} << 56) / bytes)
    throw UserError(where, "a matrix that fits an address space",
                    concat("got ", name_of(view.format), " [", view.rows, ", ", view.columns, "]"),
                    "the weight file is damaged, fetch it again");
}

namespace {

template <class T>
T read(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

void nibbles(const std::uint8_t* from, Block& out) {  // byte i holds columns i and i + 16
  for (std::size_t i = 0; i < 16; ++i) {
    out.stored[i] = from[i] & 15;
    out.stored[i + 16] = from[i] >> 4;
  }
}

void fifth_bits(const std::uint8_t* from, Block& out) {
  const std::uint32_t bits = read<std::uint32_t>(from);
  for (std::size_t i = 0; i < 32; ++i) out.stored[i] |= static_cast<std::uint8_t>((bits >> i & 1) << 4);
}

// The 6-bit scale and minimum of block s of a q4_k or q5_k super-block.
void scale_and_minimum(const std::uint8_t* at, std::size_t s, Block& out) {
  const int a = s < 4 ? at[s] & 63 : (at[s + 4] & 15) | (at[s - 4] >> 6 << 4);
  const int b = s < 4 ? at[s + 4] & 63 : (at[s + 4] >> 4) | (at[s] >> 6 << 4);
  out.a[0] = out.a[1] = static_cast<std::int8_t>(a);
  out.b = static_cast<std::int8_t>(b);
}

// q4_k and q5_k: {f16 d, f16 minimum, 12 bytes of scales, [fifth bits 32,] nibbles 128}; two blocks share 32 bytes.
void read_k(const std::uint8_t* at, std::size_t s, bool fifth, Block& out) {
  out.head_a = read<std::uint16_t>(at);
  out.head_b = read<std::uint16_t>(at + 2) ^ 0x8000;  // the minimum is taken off
  scale_and_minimum(at + 4, s, out);
  const std::uint8_t* low = at + (fifth ? 48 : 16) + s / 2 * 32;
  for (std::size_t i = 0; i < 32; ++i) {
    out.stored[i] = (low[i] >> (s % 2 * 4)) & 15;
    if (fifth) out.stored[i] |= static_cast<std::uint8_t>((at[16 + i] >> s & 1) << 4);
  }
}

// q6_k: {low nibbles 128, upper bits 64, int8 scales 16, f16 d}, each half of 128 columns apart.
void read_q6_k(const std::uint8_t* at, std::size_t s, Block& out) {
  const std::size_t half = s / 4, k = s % 4;
  const std::uint8_t *low = at + 64 * half + 32 * (k % 2), *high = at + 128 + 32 * half;
  for (std::size_t i = 0; i < 32; ++i)
    out.stored[i] = static_cast<std::uint8_t>(((low[i] >> (k / 2 * 4)) & 15) | ((high[i] >> (2 * k)) & 3) << 4);
  out.a[0] = static_cast<std::int8_t>(at[192 + 2 * s]);
  out.a[1] = static_cast<std::int8_t>(at[193 + 2 * s]);
  out.head_a = read<std::uint16_t>(at + 208);
}

}  // namespace

Block read_block(WeightFormat format, const std::uint8_t* row, std::int64_t block) {
  Block out;
  const std::int64_t per = block_columns(format) / kBlock;  // blocks of a super-block
  const std::uint8_t* at = row + block / per * block_bytes(format);
  const std::size_t s = static_cast<std::size_t>(block % per);
  using enum WeightFormat;
  if (format == q4_k || format == q5_k) {
    read_k(at, s, format == q5_k, out);
    return out;
  }
  if (format == q6_k) {
    read_q6_k(at, s, out);
    return out;
  }
  out.head_a = read<std::uint16_t>(at);
  at += 2;
  if (layout_of(format).minima) {
    out.head_b = read<std::uint16_t>(at);
    at += 2;
  }
  if (format == q8_0) {
    for (std::size_t i = 0; i < 32; ++i) out.stored[i] = at[i] ^ 0x80;  // flipping the sign bit adds 128
    return out;
  }
  const bool fifth = layout_of(format).bits == 5;
  nibbles(at + (fifth ? 4 : 0), out);
  if (fifth) fifth_bits(at, out);
  return out;
}

void decode_row(const WeightView& view, std::int64_t row, float* out) {
  const std::int64_t bytes = row_bytes(view.format, view.columns);
  const std::uint8_t* at = static_cast<const std::uint8_t*>(view.data) + row * bytes;
  if (view.format == WeightFormat::f32) {
    std::memcpy(out, at, static_cast<std::size_t>(bytes));
  } else if (view.format == WeightFormat::f16) {
    for (std::int64_t c = 0; c < view.columns; ++c) out[c] = to_float(read<Float16>(at + 2 * c));
  } else if (view.format == WeightFormat::bf16) {
    for (std::int64_t c = 0; c < view.columns; ++c) out[c] = to_float(read<BFloat16>(at + 2 * c));
  } else {
    const PanelLayout layout = layout_of(view.format);
    for (std::int64_t b = 0; b < view.columns / kBlock; ++b, out += kBlock) {
      const Block block = read_block(view.format, at, b);
      const float head_a = to_float(Float16{block.head_a});
      const float minimum = layout.minima ? to_float(Float16{block.head_b}) * static_cast<float>(block.b) : 0.0f;
      for (std::size_t i = 0; i < 32; ++i) {
        const float scaled =
            head_a * static_cast<float>(block.a[i / 16]) * static_cast<float>(block.stored[i] - layout.zero);
        out[i] = layout.minima ? scaled + minimum : scaled;
      }
    }
  }
}

}  // namespace detail
}  // namespace vortex::kernels
