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
  using Weights8 = __m512i;

  static Float zero() { return _mm512_setzero_ps(); }
  static Int zero_int() { return _mm512_setzero_si512(); }
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
  static Weights8 weights8(Bytes weights) { return weights; }
  static Int start8(const std::int32_t* offset) { return _mm512_set1_epi32(*offset); }
  static Int dot4(Int sum, Bytes weights, const std::int8_t* x) {
    std::int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return _mm512_dpbusd_epi32(sum, weights, _mm512_set1_epi32(four));
  }
  static Int sum4(Int sum) { return sum; }
  static Int dot8(Int sum, Weights8 weights, const std::int8_t* x) { return dot4(sum, weights, x); }

  static float largest_magnitude(const float* x) {
    const __m512i mask = _mm512_set1_epi32(0x7fffffff);
    const __m512i a = _mm512_and_si512(_mm512_loadu_si512(x), mask),
                  b = _mm512_and_si512(_mm512_loadu_si512(x + 16), mask);
    return _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32(_mm512_reduce_max_epi32(_mm512_max_epi32(a, b)))));
  }
  static std::int32_t quantize(const float* x, float inverse, std::int8_t* out) {
    const __m512 scale = _mm512_set1_ps(inverse);
    const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), scale));
    const __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), scale));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm512_cvtepi32_epi8(a));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16), _mm512_cvtepi32_epi8(b));
    return _mm512_reduce_add_epi32(_mm512_add_epi32(a, b));
  }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kAvx512Kernels = {quantize, q8_0, q4_1, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
