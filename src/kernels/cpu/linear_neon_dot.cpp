// Linears with NEON and the signed dot product of ARMv8.2.
#if defined(__aarch64__)
#include <arm_neon.h>

#include <cstdint>

#include "kernels/cpu/linear_kernel.h"

namespace vortex::kernels::detail {
namespace {

#include "kernels/cpu/linear_neon_vectors.inl"

struct Vectors : NeonVectors {
  static Int start8(const std::int32_t*) { return zero_int(); }
  static Int dot8(Int sum, Weights8 weights, const std::int8_t* x) { return vdotq_s32(sum, weights, four(x)); }
  static Int dot4(Int sum, Bytes weights, const std::int8_t* x) { return dot8(sum, vreinterpretq_s8_u8(weights), x); }
};

#include "kernels/cpu/linear_kernel.inl"

}  // namespace

const LinearKernels kNeonDotKernels = {quantize, q8_0, q4_1, f32, f16, bf16};

}  // namespace vortex::kernels::detail
#endif
