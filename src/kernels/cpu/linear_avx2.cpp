// Linears with AVX2, FMA and F16C. Products of bytes are summed in pairs in 16 bits, which must not saturate: weights
// of 4 and 5 bits cannot even over half a block (8 · 31 · 127 = 31496 in each pair of columns); 6-bit ones widen after
// every four columns (2 · 63 · 127); 8-bit ones go as |w| · (x with the sign of w), at most 2 · 128 · 127.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

#include "kernels/cpu/linear_avx2_vectors.inl"

struct Vectors : Avx2Vectors {
  struct Weights8 {
    __m256i value, magnitude;
  };
  static Weights8 weights8(Bytes weights) {
    const __m256i value = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
    return {value, _mm256_abs_epi8(value)};
  }
  static Int add_pairs(Int pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
  template <int kBits>
  static Int begin(const std::int32_t* start) {
    return kBits == 6 && start ? _mm256_set1_epi32(*start) : zero_int();
  }
  template <int kBits>
  static Int dot(Int sum, Bytes weights, const std::int8_t* x) {
    const __m256i pairs = _mm256_maddubs_epi16(weights, four(x));
    return kBits == 6 ? _mm256_add_epi32(sum, add_pairs(pairs)) : _mm256_add_epi16(sum, pairs);
  }
  template <int>
  static Int dot(Int sum, Weights8 weights, const std::int8_t* x) {
    return _mm256_add_epi32(
        sum, add_pairs(_mm256_maddubs_epi16(weights.magnitude, _mm256_sign_epi8(four(x), weights.value))));
  }
  template <int kBits>
  static Int end(Int sum, const std::int32_t* start) {
    if (kBits >= 6) return sum;
    return start ? _mm256_add_epi32(add_pairs(sum), _mm256_set1_epi32(*start)) : add_pairs(sum);
  }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kAvx2Kernels = {quantize, integers, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
