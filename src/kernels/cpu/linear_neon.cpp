// Linears with plain NEON: products of bytes widen to 16 bits and are summed in pairs to 32.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

#include "kernels/cpu/linear_neon_vectors.inl"

struct Vectors : NeonVectors {
  static Int start8(const std::int32_t*) { return zero_int(); }
  static Int dot8(Int sum, Weights8 weights, const std::int8_t* x) {
    const int8x16_t values = four(x);
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(values)));     // rows 0 0 1 1
    const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(weights), vget_high_s8(values)));  // rows 2 2 3 3
    return vaddq_s32(sum, vpaddq_s32(low, high));
  }
  static Int dot4(Int sum, Bytes weights, const std::int8_t* x) { return dot8(sum, vreinterpretq_s8_u8(weights), x); }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kNeonKernels = {quantize, q8_0, q4_1, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
