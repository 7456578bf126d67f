// Random matrices in every weight format, with the double-precision meaning of their bytes.
#pragma once

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "base/float16.h"
#include "kernels/cpu/linear.h"

namespace vortex::kernels::testing {

struct RandomMatrix {
  WeightFormat format;
  std::int64_t rows, columns;
  std::vector<std::uint8_t> bytes;
  std::vector<double> values;  // [rows, columns], exact

  WeightView view() const { return {format, bytes.data(), rows, columns}; }
};

// What a block of integers means, one weight at a time, after the description of the GGUF formats.
struct BlockMeaning {
  const std::uint8_t* at;
  double half_at(std::size_t offset) const {
    return static_cast<double>(to_float(Float16{static_cast<std::uint16_t>(at[offset] | at[offset + 1] << 8)}));
  }
  int bit(std::size_t offset, int index) const {
    return at[offset + static_cast<std::size_t>(index / 8)] >> (index % 8) & 1;
  }
  int nibble(std::size_t offset, int i) const {  // of 32 weights in 16 bytes
    return i < 16 ? at[offset + static_cast<std::size_t>(i)] & 15 : at[offset + static_cast<std::size_t>(i) - 16] >> 4;
  }
  double k_value(int i, bool fifth) const {
    const int s = i / 32, l = i % 32;
    const std::uint8_t* scales = at + 4;
    const int scale = s < 4 ? scales[s] % 64 : scales[s + 4] % 16 + scales[s - 4] / 64 * 16;
    const int minimum = s < 4 ? scales[s + 4] % 64 : scales[s + 4] / 16 + scales[s] / 64 * 16;
    const std::uint8_t byte = at[(fifth ? 48 : 16) + 32 * (s / 2) + l];
    const int q = (s % 2 ? byte / 16 : byte % 16) + (fifth ? 16 * (at[16 + l] >> s & 1) : 0);
    return half_at(0) * scale * q - half_at(2) * minimum;
  }
  double value(WeightFormat format, int i) const {
    switch (format) {
      case WeightFormat::q8_0:
        return half_at(0) * static_cast<std::int8_t>(at[2 + i]);
      case WeightFormat::q4_0:
        return half_at(0) * (nibble(2, i) - 8);
      case WeightFormat::q4_1:
        return half_at(0) * nibble(4, i) + half_at(2);
      case WeightFormat::q5_0:
        return half_at(0) * (nibble(6, i) + 16 * bit(2, i) - 16);
      case WeightFormat::q5_1:
        return half_at(0) * (nibble(8, i) + 16 * bit(4, i)) + half_at(2);
      case WeightFormat::q4_k:
        return k_value(i, false);
      case WeightFormat::q5_k:
        return k_value(i, true);
      default: {  // q6_k: 4 runs of 32 in each half of 128
        const int half = i / 128, run = i % 128 / 32, l = i % 32;
        const std::uint8_t low = at[64 * half + 32 * (run % 2) + l];
        const int upper = at[128 + 32 * half + l] >> (2 * run) & 3;
        const int q = (run < 2 ? low % 16 : low / 16) + 16 * upper - 32;
        return half_at(208) * static_cast<std::int8_t>(at[192 + i / 16]) * q;
      }
    }
  }
};

struct BlockShape {
  std::int64_t columns, bytes;
  std::vector<std::size_t> scales, minima;  // where the float16 lie
  float scale;                              // their size, for weights of about 0.1
};
inline BlockShape block_shape(WeightFormat format) {
  switch (format) {
    case WeightFormat::q8_0:
      return {32, 34, {0}, {}, 0.001f};
    case WeightFormat::q4_0:
      return {32, 18, {0}, {}, 0.01f};
    case WeightFormat::q4_1:
      return {32, 20, {0}, {2}, 0.01f};
    case WeightFormat::q5_0:
      return {32, 22, {0}, {}, 0.006f};
    case WeightFormat::q5_1:
      return {32, 24, {0}, {2}, 0.006f};
    case WeightFormat::q4_k:
      return {256, 144, {0, 2}, {}, 0.0003f};
    case WeightFormat::q5_k:
      return {256, 176, {0, 2}, {}, 0.0002f};
    case WeightFormat::q6_k:
      return {256, 210, {208}, {}, 0.0001f};
    default:
      return {1, 0, {}, {}, 0.0f};
  }
}

// Every byte of the integers is used, -128 included: files may hold it.
inline RandomMatrix random_matrix(WeightFormat format, std::int64_t rows, std::int64_t columns,
                                  std::mt19937_64& random) {
  RandomMatrix out{format, rows, columns, {}, {}};
  std::normal_distribution<float> normal(0.0f, 0.1f);
  std::uniform_int_distribution<int> byte(0, 255);
  const BlockShape shape = block_shape(format);
  if (shape.columns > 1) {
    std::vector<std::uint8_t> block(static_cast<std::size_t>(shape.bytes));
    for (std::int64_t b = 0; b < rows * columns / shape.columns; ++b) {
      for (std::uint8_t& value : block) value = static_cast<std::uint8_t>(byte(random));
      auto set = [&](std::size_t at, float value) {
        const std::uint16_t bits = to_float16(value).bits;
        std::memcpy(block.data() + at, &bits, 2);
      };
      for (std::size_t at : shape.scales) set(at, (1.0f + 5.0f * std::abs(normal(random))) * shape.scale);
      for (std::size_t at : shape.minima) set(at, normal(random));
      out.bytes.insert(out.bytes.end(), block.begin(), block.end());
      for (int i = 0; i < shape.columns; ++i) out.values.push_back(BlockMeaning{block.data()}.value(format, i));
    }
    return out;
  }
  auto put16 = [&](std::uint16_t bits) { out.bytes.push_back(bits & 255), out.bytes.push_back(bits >> 8); };
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    float value = normal(random);
    if (format == WeightFormat::f16) {
      put16(to_float16(value).bits);
      value = to_float(to_float16(value));
    } else if (format == WeightFormat::bf16) {
      put16(to_bfloat16(value).bits);
      value = to_float(to_bfloat16(value));
    } else {
      std::uint32_t bits;
      std::memcpy(&bits, &value, 4);
      put16(bits & 0xffff), put16(static_cast<std::uint16_t>(bits >> 16));
    }
    out.values.push_back(value);
  }
  return out;
}

inline std::vector<float> random_floats(std::int64_t count, std::mt19937_64& random, float deviation = 1.0f) {
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) value = normal(random);
  return out;
}

}  // namespace vortex::kernels::testing
