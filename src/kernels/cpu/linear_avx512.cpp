// Linears with AVX-512 F, BW, DQ, VL and VNNI: a panel's 16 rows are one register.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

struct Vectors {
  static constexpr int lanes = 16, tokens = 8;
  using Float = __m512;
  using Int = __m512i;
  using Bytes = __m512i;

  static Float zero() { return _mm512_setzero_ps(); }
  static Float load(const float* at) { return _mm512_loadu_ps(at); }
  static void store(float* at, Float value) { _mm512_storeu_ps(at, value); }
  static Float broadcast(const float* at) { return _mm512_set1_ps(*at); }
  static Float add(Float a, Float b) { return _mm512_add_ps(a, b); }
  static Float mul(Float a, Float b) { return _mm512_mul_ps(a, b); }
  static Float fma(Float a, Float b, Float c) { return _mm512_fmadd_ps(a, b, c); }
  static Float load_f16(const std::uint8_t* at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
  }
  static Float load_bf16(const std::uint16_t* at) {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static Float to_float(Int value) { return _mm512_cvtepi32_ps(value); }
  static Bytes load_bytes(const std::uint8_t* at) { return _mm512_loadu_si512(at); }
  static Bytes low_nibbles(Bytes both) { return _mm512_and_si512(both, _mm512_set1_epi8(15)); }
  static Bytes high_nibbles(Bytes both) { return _mm512_and_si512(_mm512_srli_epi16(both, 4), _mm512_set1_epi8(15)); }
  template <int kShift, int kMask>  // low | (high shifted to the left by kShift & kMask)
  static Bytes with_bits(Bytes low, Bytes high) {
    const Bytes moved = kShift >= 0 ? _mm512_slli_epi16(high, kShift >= 0 ? kShift : 0)
                                    : _mm512_srli_epi16(high, kShift < 0 ? -kShift : 0);
    return _mm512_or_si512(low, _mm512_and_si512(moved, _mm512_set1_epi8(kMask)));
  }
  static Bytes weights8(Bytes weights) { return weights; }
  static Float load_i8(const std::uint8_t* at) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at))));
  }
  template <int>
  static Int begin(const std::int32_t* start) {
    return start ? _mm512_set1_epi32(*start) : _mm512_setzero_si512();
  }
  template <int>
  static Int dot(Int sum, Bytes weights, const std::int8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(four));
  }
  template <int>
  static Int end(Int sum, const std::int32_t*) {
    return sum;
  }
  static Int add_254_times(Int a, Int b) {
    return _mm512_add_epi32(a, _mm512_sub_epi32(_mm512_slli_epi32(b, 8), _mm512_slli_epi32(b, 1)));
  }

  static float largest_magnitude(const float* x) {
    const __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), _mm512_set1_epi32(0x7fffffff));
    return _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32(_mm512_reduce_max_epi32(a))));
  }
  static void put_bytes(std::int8_t* out, Int q) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(q));
  }
  static std::int32_t quantize(const float* x, float inverse, std::int8_t* out) {
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse)));
    put_bytes(out, q);
    return _mm512_reduce_add_epi32(q);
  }
  static std::int32_t quantize_twice(const float* x, float inverse, float step, std::int8_t* out, std::int8_t* rest) {
    const __m512 value = _mm512_loadu_ps(x);
    const __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(value, _mm512_set1_ps(inverse)));
    const __m512 left = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(step), value);
    const __m512i r = _mm512_cvtps_epi32(_mm512_mul_ps(left, _mm512_set1_ps(inverse * 254.0f)));
    put_bytes(out, q);
    put_bytes(rest, r);
    return _mm512_reduce_add_epi32(add_254_times(r, q));
  }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kAvx512Kernels = {quantize, integers, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
