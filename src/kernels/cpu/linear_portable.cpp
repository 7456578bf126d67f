// Linears without any special instructions: for processors that none of the other files fits, and as the plain meaning
// of the layout that the others are tested against.
#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

// Four lanes as the compiler's own vectors, which every target has. What is long is a call, compiled once: these loops
// are unrolled for every format and width, and here size matters more than time.
struct Vectors {
  static constexpr int lanes = 4, tokens = 2;
  using Float = float __attribute__((vector_size(16)));
  using Int = std::int32_t __attribute__((vector_size(16)));
  using Bytes = std::uint8_t __attribute__((vector_size(16)));

  static Float zero() { return Float{}; }
  static Float load(const float* at) {
    Float out{};
    __builtin_memcpy(&out, at, sizeof out);
    return out;
  }
  static void store(float* at, Float value) { __builtin_memcpy(at, &value, sizeof value); }
  static Float broadcast(const float* at) { return Float{*at, *at, *at, *at}; }
  static Float add(Float a, Float b) { return a + b; }
  static Float mul(Float a, Float b) { return a * b; }
  [[gnu::noinline]] static Float fma(Float a, Float b, Float c) {
    for (int i = 0; i < lanes; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
  }
  static float bits_to_float(std::uint32_t bits) {
    float out;
    __builtin_memcpy(&out, &bits, sizeof out);
    return out;
  }
  [[gnu::noinline]] static Float load_f16(const std::uint8_t* at) {
    Float out{};
    for (int i = 0; i < lanes; ++i) {
      std::uint16_t half;
      __builtin_memcpy(&half, at + 2 * i, sizeof half);
      const std::uint32_t sign = (half & 0x8000u) << 16, magnitude = half & 0x7fffu;
      // Shifted into place a half is 2^-112 times its value; infinities and NaNs keep an exponent of all ones.
      const float value = bits_to_float(magnitude << 13) * 0x1p112f;
      std::uint32_t bits;
      __builtin_memcpy(&bits, &value, sizeof bits);
      if (magnitude >= 0x7c00u) bits |= 0x7f800000u;
      out[i] = bits_to_float(bits | sign);
    }
    return out;
  }
  static Float load_bf16(const std::uint16_t* at) {
    Float out{};
    for (int i = 0; i < lanes; ++i) out[i] = bits_to_float(static_cast<std::uint32_t>(at[i]) << 16);
    return out;
  }
  static Float to_float(Int value) { return __builtin_convertvector(value, Float); }
  static Bytes load_bytes(const std::uint8_t* at) {
    Bytes out;
    __builtin_memcpy(&out, at, sizeof out);
    return out;
  }
  static Bytes low_nibbles(Bytes both) { return both & std::uint8_t{15}; }
  static Bytes high_nibbles(Bytes both) { return both >> 4; }
  template <int kShift, int kMask>  // low | (high shifted to the left by kShift & kMask)
  static Bytes with_bits(Bytes low, Bytes high) {
    return low | ((kShift >= 0 ? high << (kShift & 7) : high >> (-kShift & 7)) & static_cast<std::uint8_t>(kMask));
  }
  static Bytes weights8(Bytes weights) { return weights; }
  static Float load_i8(const std::uint8_t* at) {
    Float out{};
    for (int i = 0; i < lanes; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(at[i]));
    return out;
  }
  template <int>
  static Int begin(const std::int32_t* start) {
    return start ? Int{*start, *start, *start, *start} : Int{};
  }
  template <int>
  static Int dot(Int sum, Bytes weights, const std::int8_t* x) {
    return add_products(sum, weights, x);
  }
  [[gnu::noinline]] static Int add_products(Int sum, Bytes weights, const std::int8_t* x) {
    for (int i = 0; i < lanes; ++i)
      for (int j = 0; j < 4; ++j) sum[i] += weights[4 * i + j] * x[j];
    return sum;
  }
  template <int>
  static Int end(Int sum, const std::int32_t*) {
    return sum;
  }
  static Int add_254_times(Int a, Int b) { return a + 254 * b; }

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
