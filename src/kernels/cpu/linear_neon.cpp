// Linears with plain NEON: products of bytes widen to 16 bits and are summed in pairs to 32.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

#include "kernels/cpu/linear_neon_vectors.inl"

struct Vectors : NeonVectors {
  template <int>
  static Int dot(Int sum, Bytes bytes, const std::int8_t* x) {
    const int8x16_t weights = vreinterpretq_s8_u8(bytes), values = four(x);
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(weights), vget_low_s8(values)));     // rows 0 0 1 1
    const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(weights), vget_high_s8(values)));  // rows 2 2 3 3
    return vaddq_s32(sum, vpaddq_s32(low, high));
  }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kNeonKernels = {quantize, integers, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
