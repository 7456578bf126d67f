// Linear layers on the CPU: weights repacked once into row panels, activations quantised to int8 per 16 columns where
// the weights are integers. The order of summation of an output depends on nothing but the weights' format and width.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/thread_pool.h"

namespace vortex::kernels {

// The integers are the block formats of GGUF.
enum class WeightFormat : std::uint8_t { f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k };
inline constexpr WeightFormat kWeightFormats[] = {WeightFormat::f32,  WeightFormat::f16,  WeightFormat::bf16,
                                                  WeightFormat::q8_0, WeightFormat::q4_0, WeightFormat::q4_1,
                                                  WeightFormat::q5_0, WeightFormat::q5_1, WeightFormat::q4_k,
                                                  WeightFormat::q5_k, WeightFormat::q6_k};
const char* name_of(WeightFormat);
// UserError lists the names there are.
WeightFormat format_of(std::string_view name);
// Bytes of one row of `columns` weights; UserError when columns is not a multiple of the format's block.
std::int64_t row_bytes(WeightFormat, std::int64_t columns);

// A matrix as a weight file stores it: `rows` output features, each row contiguous.
struct WeightView {
  WeightFormat format = WeightFormat::f32;
  const void* data = nullptr;
  std::int64_t rows = 0, columns = 0;
};

// How activations meet integer weights: one int8 a value, or two (about 16 bits) at up to twice the arithmetic and the
// same bytes of weights. Float weights take activations as they are.
enum class Activations : std::uint8_t { int8, int8_twice };

class PackedLinear {
 public:
  virtual ~PackedLinear() = default;
  // Stacks the matrices' rows into one (q, k and v; gate and up): all must share format and columns.
  static std::shared_ptr<const PackedLinear> pack(std::span<const WeightView>, ThreadPool&,
                                                  Activations = Activations::int8);

  virtual std::int64_t rows() const = 0;
  virtual std::int64_t columns() const = 0;
  virtual std::int64_t bytes() const = 0;  // read by one pass over the weights
  // y[t, :] = W x[t, :] (+ bias) for t in [0, tokens). bias: [rows] or null.
  virtual void run(const float* x, std::int64_t x_stride, float* y, std::int64_t y_stride, std::int64_t tokens,
                   const float* bias, ThreadPool&) const = 0;
};

// out[t, :] = row tokens[t] of the matrix, as float.
void gather_rows(const WeightView&, const std::int32_t* tokens, std::int64_t count, float* out, ThreadPool&);

}  // namespace vortex::kernels
