// Linears with AVX2, FMA and F16C. Products of bytes are summed in pairs in 16 bits, which must not saturate: 4-bit
// weights cannot even over a whole block (16 · 15 · 127 = 30480 in each pair of columns); 8-bit ones go as |w| · (x
// with the sign of w), at most 2 · 128 · 127.
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
  static Int start8(const std::int32_t*) { return zero_int(); }
  static Int add_pairs(Int pairs) { return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)); }
  static Int dot4(Int sum, Bytes weights, const std::int8_t* x) {
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(weights, four(x)));
  }
  static Int sum4(Int sum) { return add_pairs(sum); }
  static Int dot8(Int sum, Weights8 weights, const std::int8_t* x) {
    return _mm256_add_epi32(
        sum, add_pairs(_mm256_maddubs_epi16(weights.magnitude, _mm256_sign_epi8(four(x), weights.value))));
  }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kAvx2Kernels = {quantize, q8_0, q4_1, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
