// Linears with AVX2, FMA, F16C and AVX-VNNI (256-bit vpdpbusd), for processors without AVX-512.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

#include "kernels/cpu/linear_avx2_vectors.inl"

struct Vectors : Avx2Vectors {
  using Weights8 = __m256i;
  static Weights8 weights8(Bytes weights) { return weights; }
  static Int start8(const std::int32_t* offset) { return _mm256_set1_epi32(*offset); }
  static Int dot4(Int sum, Bytes weights, const std::int8_t* x) {
    return _mm256_dpbusd_avx_epi32(sum, weights, four(x));
  }
  static Int sum4(Int sum) { return sum; }
  static Int dot8(Int sum, Weights8 weights, const std::int8_t* x) { return dot4(sum, weights, x); }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kAvxVnniKernels = {quantize, q8_0, q4_1, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
