#include "kernels/cpu/weight_format.h"

#include <cstring>

#include "base/check.h"
#include "base/float16.h"

namespace vortex::kernels {

const char* name_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32:
      return "f32";
    case WeightFormat::f16:
      return "f16";
    case WeightFormat::bf16:
      return "bf16";
    case WeightFormat::q8_0:
      return "q8_0";
    case WeightFormat::q4_1:
      return "q4_1";
  }
  return "?";
}

std::int64_t row_bytes(WeightFormat format, std::int64_t columns) {
  const std::int64_t block = detail::block_columns(format);
  if (columns <= 0 || columns % block != 0)
    throw UserError("linear",
                    block == 1 ? "rows of at least one column"
                               : concat(name_of(format), " rows of a multiple of ", block, " columns"),
                    concat("got ", columns, " columns"),
                    block == 1 ? "check the shape of the weight" : "store this weight as f16 or bf16");
  return columns / block * detail::block_bytes(format);
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

std::int64_t block_columns(WeightFormat format) {
  return format == WeightFormat::q8_0 || format == WeightFormat::q4_1 ? 32 : 1;
}

std::int64_t block_bytes(WeightFormat format) {
  switch (format) {
    case WeightFormat::f32:
      return 4;
    case WeightFormat::f16:
    case WeightFormat::bf16:
      return 2;
    case WeightFormat::q8_0:
      return 34;
    case WeightFormat::q4_1:
      return 20;
  }
  return 0;
}

void check_view(const char* where, const WeightView& view) {
  row_bytes(view.format, view.columns);
  if (!view.data || view.rows <= 0)
    throw UserError(where, "a matrix with data and at least one row",
                    concat("got ", name_of(view.format), " [", view.rows, ", ", view.columns, "]",
                           view.data ? "" : " without data"),
                    "check that the weight file is complete");
}

namespace {

template <class T>
T read(const std::uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

void decode_row(const WeightView& view, std::int64_t row, float* out) {
  const std::int64_t bytes = view.columns / block_columns(view.format) * block_bytes(view.format);
  const std::uint8_t* at = static_cast<const std::uint8_t*>(view.data) + row * bytes;
  switch (view.format) {
    case WeightFormat::f32:
      std::memcpy(out, at, static_cast<std::size_t>(bytes));
      return;
    case WeightFormat::f16:
      for (std::int64_t c = 0; c < view.columns; ++c) out[c] = to_float(read<Float16>(at + 2 * c));
      return;
    case WeightFormat::bf16:
      for (std::int64_t c = 0; c < view.columns; ++c) out[c] = to_float(read<BFloat16>(at + 2 * c));
      return;
    case WeightFormat::q8_0:
      for (std::int64_t c = 0; c < view.columns; c += 32, at += 34) {
        const float d = to_float(read<Float16>(at));
        for (int i = 0; i < 32; ++i) out[c + i] = d * static_cast<float>(static_cast<std::int8_t>(at[2 + i]));
      }
      return;
    case WeightFormat::q4_1:
      for (std::int64_t c = 0; c < view.columns; c += 32, at += 20) {
        const float d = to_float(read<Float16>(at)), m = to_float(read<Float16>(at + 2));
        for (int i = 0; i < 16; ++i) {
          out[c + i] = d * static_cast<float>(at[4 + i] & 15) + m;
          out[c + 16 + i] = d * static_cast<float>(at[4 + i] >> 4) + m;
        }
      }
      return;
  }
}

}  // namespace detail
}  // namespace vortex::kernels
