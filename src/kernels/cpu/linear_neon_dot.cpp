// Linears with NEON and the signed dot product of ARMv8.2.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

#include "kernels/cpu/linear_neon_vectors.inl"

struct Vectors : NeonVectors {
  template <int>
  static Int dot(Int sum, Bytes weights, const std::int8_t* x) {
    return vdotq_s32(sum, vreinterpretq_s8_u8(weights), four(x));
  }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kNeonDotKernels = {quantize, integers, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
