// Linears without any special instructions: for processors that none of the other files fits, and as the plain meaning
// of the layout that the others are tested against.
#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

struct Vectors {
  static constexpr int lanes = 4, tokens = 4;
  struct Float {
    float lane[lanes];
  };
  struct Int {
    std::int32_t lane[lanes];
  };
  struct Bytes {
    std::uint8_t byte[4 * lanes];
  };

  static Float zero() { return {}; }
  static Float load(const float* at) {
    Float out;
    __builtin_memcpy(&out, at, sizeof out);
    return out;
  }
  static void store(float* at, Float value) { __builtin_memcpy(at, &value, sizeof value); }
  static Float broadcast(const float* at) { return {{*at, *at, *at, *at}}; }
  static Float add(Float a, Float b) {
    for (int i = 0; i < lanes; ++i) a.lane[i] += b.lane[i];
    return a;
  }
  static Float mul(Float a, Float b) {
    for (int i = 0; i < lanes; ++i) a.lane[i] *= b.lane[i];
    return a;
  }
  static Float fma(Float a, Float b, Float c) {
    for (int i = 0; i < lanes; ++i) c.lane[i] = __builtin_fmaf(a.lane[i], b.lane[i], c.lane[i]);
    return c;
  }
  static float bits_to_float(std::uint32_t bits) {
    float out;
    __builtin_memcpy(&out, &bits, sizeof out);
    return out;
  }
  static Float load_f16(const std::uint8_t* at) {
    Float out;
    for (int i = 0; i < lanes; ++i) {
      std::uint16_t half;
      __builtin_memcpy(&half, at + 2 * i, sizeof half);
      const std::uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
      // Shifted into place a half is 2^-112 times its value; infinities and NaNs keep an exponent of all ones.
      const float value = bits_to_float(magnitude << 13) * 0x1p112f;
      std::uint32_t bits;
      __builtin_memcpy(&bits, &value, sizeof bits);
      if (magnitude >= 0x7c00u) bits |= 0x7f800000u;
      out.lane[i] = bits_to_float(bits | sign);
    }
    return out;
  }
  static Float load_bf16(const std::uint16_t* at) {
    Float out;
    for (int i = 0; i < lanes; ++i) out.lane[i] = bits_to_float(static_cast<std::uint32_t>(at[i]) << 16);
    return out;
  }
  static Float to_float(Int value) {
    Float out;
    for (int i = 0; i < lanes; ++i) out.lane[i] = static_cast<float>(value.lane[i]);
    return out;
  }
  static Bytes load_bytes(const std::uint8_t* at) {
    Bytes out;
    __builtin_memcpy(&out, at, sizeof out);
    return out;
  }
  static Bytes low_nibbles(Bytes both) {
    for (std::uint8_t& byte : both.byte) byte &= 15;
    return both;
  }
  static Bytes high_nibbles(Bytes both) {
    for (std::uint8_t& byte : both.byte) byte = static_cast<std::uint8_t>(byte >> 4);
    return both;
  }
  template <int kShift, int kMask>  // low | (high shifted to the left by kShift & kMask)
  static Bytes with_bits(Bytes low, Bytes high) {
    for (int i = 0; i < 4 * lanes; ++i)
      low.byte[i] |= static_cast<std::uint8_t>(
          (kShift >= 0 ? high.byte[i] << (kShift & 7) : high.byte[i] >> (-kShift & 7)) & kMask);
    return low;
  }
  static Bytes weights8(Bytes weights) { return weights; }
  static Float load_i8(const std::uint8_t* at) {
    Float out;
    for (int i = 0; i < lanes; ++i) out.lane[i] = static_cast<float>(static_cast<std::int8_t>(at[i]));
    return out;
  }
  template <int>
  static Int begin(const std::int32_t* start) {
    return start ? Int{{*start, *start, *start, *start}} : Int{};
  }
  template <int>
  static Int dot(Int sum, Bytes weights, const std::int8_t* x) {
    for (int i = 0; i < lanes; ++i)
      for (int j = 0; j < 4; ++j) sum.lane[i] += weights.byte[4 * i + j] * x[j];
    return sum;
  }
  template <int>
  static Int end(Int sum, const std::int32_t*) {
    return sum;
  }
  static Int add_254_times(Int a, Int b) {
    for (int i = 0; i < lanes; ++i) a.lane[i] += 254 * b.lane[i];
    return a;
  }

  // The largest |x| of 16; a NaN is larger than everything.
  static float largest_magnitude(const float* x) {
    std::uint32_t largest = 0;
    for (int i = 0; i < 16; ++i) {
      std::uint32_t bits;
      __builtin_memcpy(&bits, x + i, sizeof bits);
      bits &= 0x7fffffffu;
      if (bits > largest) largest = bits;
    }
    return bits_to_float(largest);
  }
  // Adding and subtracting 1.5 · 2^23 rounds to the nearest even integer.
  static std::int32_t nearest(float x) { return static_cast<std::int32_t>((x + 12582912.0f) - 12582912.0f); }
  static std::int32_t quantize(const float* x, float inverse, std::int8_t* out) {
    std::int32_t sum = 0;
    for (int i = 0; i < 16; ++i) {
      const std::int32_t q = nearest(x[i] * inverse);
      out[i] = static_cast<std::int8_t>(q);
      sum += q;
    }
    return sum;
  }
  static std::int32_t quantize_twice(const float* x, float inverse, float step, std::int8_t* out, std::int8_t* rest) {
    std::int32_t sum = 0;
    for (int i = 0; i < 16; ++i) {
      const std::int32_t q = nearest(x[i] * inverse);
      const float left = __builtin_fmaf(-static_cast<float>(q), step, x[i]);
      const std::int32_t r = nearest(left * (inverse * 254.0f));
      out[i] = static_cast<std::int8_t>(q);
      rest[i] = static_cast<std::int8_t>(r);
      sum += 254 * q + r;
    }
    return sum;
  }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kPortableKernels = {quantize, integers, f32, f16, bf16};

}  // namespace vortex::kernels::detail
