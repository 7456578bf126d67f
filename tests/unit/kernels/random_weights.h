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

// Every byte of the integers is used, -128 included: files may hold it.
inline RandomMatrix random_matrix(WeightFormat format, std::int64_t rows, std::int64_t columns,
                                  std::mt19937_64& random) {
  RandomMatrix out{format, rows, columns, {}, {}};
  std::normal_distribution<float> normal(0.0f, 0.1f);
  std::uniform_int_distribution<int> byte(0, 255);
  auto put16 = [&](std::uint16_t bits) { out.bytes.push_back(bits & 255), out.bytes.push_back(bits >> 8); };
  for (std::int64_t r = 0; r < rows; ++r) {
    if (format == WeightFormat::q8_0 || format == WeightFormat::q4_1) {
      for (std::int64_t c = 0; c < columns; c += 32) {
        const Float16 d = to_float16(std::abs(normal(random)) * 0.1f), m = to_float16(normal(random));
        put16(d.bits);
        if (format == WeightFormat::q4_1) put16(m.bits);
        double block[32];
        for (int i = 0; i < (format == WeightFormat::q8_0 ? 32 : 16); ++i) {
          const int q = byte(random);
          out.bytes.push_back(static_cast<std::uint8_t>(q));
          if (format == WeightFormat::q8_0) {
            block[i] = static_cast<double>(to_float(d)) * static_cast<std::int8_t>(q);
          } else {
            block[i] = static_cast<double>(to_float(d)) * (q & 15) + static_cast<double>(to_float(m));
            block[i + 16] = static_cast<double>(to_float(d)) * (q >> 4) + static_cast<double>(to_float(m));
          }
        }
        out.values.insert(out.values.end(), block, block + 32);
      }
      continue;
    }
    for (std::int64_t c = 0; c < columns; ++c) {
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
