// What all device code shares: storage types, conversions, and sums over a warp or a block in one fixed order. Includes
// nothing, so the same text feeds NVRTC and nvcc. Refuses nothing: launchers check.
#pragma once

namespace vortex {

using int64 = long long;

struct BFloat16 {
  unsigned short bits;
};

__device__ inline float to_float(BFloat16 value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }
__device__ inline float to_float(float value) { return value; }

// To nearest even, NaN stays NaN: the bits of the CPU's conversion.
__device__ inline BFloat16 to_bfloat16(float value) {
  const unsigned bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<unsigned short>((bits >> 16) | 0x40u)};
  return {static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

// Threads that work on one thing: a warp, or a whole block. `thread` of `size`; sum, max and min give every thread the
// result, combined in an order that depends on `size` alone.
struct Warp {
  int thread = threadIdx.x & 31;
  static constexpr int size = 32;

  __device__ void sync() const { __syncwarp(); }
  __device__ float sum(float x) const {
    for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
  }
  __device__ float max(float x) const {
    for (int step = 16; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, step));
    return x;
  }
  __device__ float min(float x) const { return -max(-x); }
};

// `scratch` has 32 floats of shared memory.
struct Block {
  float* scratch;
  int thread = threadIdx.x;
  int size = blockDim.x;

  __device__ explicit Block(float* shared) : scratch(shared) {}
  __device__ void sync() const { __syncthreads(); }
  __device__ float sum(float x) const {
    return combine(Warp().sum(x), 0.0f, [](float a, float b) { return a + b; });
  }
  __device__ float max(float x) const {
    return combine(Warp().max(x), -infinity(), [](float a, float b) { return fmaxf(a, b); });
  }
  __device__ float min(float x) const { return -max(-x); }

 private:
  template <class Join>
  __device__ float combine(float of_warp, float neutral, Join join) const {
    if ((thread & 31) == 0) scratch[thread / 32] = of_warp;
    __syncthreads();
    float out = neutral;
    for (int warp = 0; warp < size / 32; ++warp) out = join(out, scratch[warp]);
    __syncthreads();  // scratch may be written again
    return out;
  }
};

}  // namespace vortex
