// Linears with AVX2, FMA, F16C and AVX-VNNI (256-bit vpdpbusd), for processors without AVX-512.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

#include "kernels/cpu/linear_avx2_vectors.inl"

struct Vectors : Avx2Vectors {
  static Bytes weights8(Bytes weights) { return weights; }
  template <int>
  static Int begin(const std::int32_t* start) {
    return start ? _mm256_set1_epi32(*start) : zero_int();
  }
  template <int>
  static Int dot(Int sum, Bytes weights, const std::int8_t* x) {
    return _mm256_dpbusd_avx_epi32(sum, weights, four(x));
  }
  template <int>
  static Int end(Int sum, const std::int32_t*) {
    return sum;
  }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kAvxVnniKernels = {quantize, integers, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
