// K and V as they are stored. VORTEX_KV, which the text around defines, says how: 0 bf16; 1 int8, 2 e4m3: a byte a
// channel, and a float scale for each vector (a token's K or V of one KV head). What a byte says is exact in bf16, so
// kernels multiply bytes as bf16 and scale logits and weights. Includes nothing but device text; refuses nothing.
#pragma once

#include "device/cuda/matrix.cuh"

#ifndef VORTEX_KV
#define VORTEX_KV 0
#endif

namespace vortex {

constexpr bool kInBytes = VORTEX_KV != 0;
constexpr int kStoredBytes = kInBytes ? 1 : 2;  // of a channel
constexpr int kScaleBytes = kInBytes ? 4 : 0;   // of a vector
#if VORTEX_KV == 0
using Stored = BFloat16;
using EightStored = uint4;  // eight channels
#else
using Stored = unsigned char;
using EightStored = uint2;
#endif

// Four bytes as two pairs of bf16, exactly.
__device__ inline uint2 widen_integers(unsigned four) {
  const unsigned shifted = four ^ 0x80808080u;  // 128 more each
  const auto number = [&](unsigned byte) {      // 2²³ + 128 + x, less what is not x
    return __uint_as_float(__byte_perm(shifted, 0x4b000000u, 0x7440u | byte)) - 8388736.0f;
  };
  return make_uint2(pack_bfloat16(number(0), number(1)), pack_bfloat16(number(2), number(3)));
}
__device__ inline uint2 widen_e4m3(unsigned four) {
  const auto pair = [&](unsigned order) {
    const unsigned bytes = __byte_perm(four, 0u, order);  // each in the high half of 16 bits
    const unsigned bits = (bytes & 0x80008000u) | ((bytes & 0x7f007f00u) >> 4);
    unsigned out;  // times 2¹²⁰: what the exponents are short of; subnormal numbers come out as they should
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(bits), "r"(0x7b807b80u), "r"(0x80008000u));
    return out;
  };
  return make_uint2(pair(0x1404u), pair(0x3424u));
}

// Eight stored channels as bf16, without their scale.
__device__ inline uint4 widened(const uint4& eight) { return eight; }
__device__ inline uint4 widened(const uint2& eight) {
#if VORTEX_KV == 1
  const uint2 first = widen_integers(eight.x), second = widen_integers(eight.y);
#else
  const uint2 first = widen_e4m3(eight.x), second = widen_e4m3(eight.y);
#endif
  return make_uint4(first.x, first.y, second.x, second.y);
}

// 8 bytes that are read once: they do not stay in the first cache.
__device__ inline uint2 load_eight_once(const unsigned char* from) {
  uint2 out;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v2.u32 {%0, %1}, [%2];" : "=r"(out.x), "=r"(out.y) : "l"(from));
  return out;
}
__device__ inline uint4 load_eight_once(const BFloat16* from) { return load_once(from); }

// One byte of a vector, without its scale.
__device__ inline float to_float(unsigned char byte) {
#if VORTEX_KV == 1
  return static_cast<float>(static_cast<signed char>(byte));
#else
  return low_bfloat16(widen_e4m3(byte).x);
#endif
}

// The nearest byte to a number of at most 127 or 448, ties to even.
__device__ inline unsigned char integer_byte(float x) {
  return static_cast<unsigned char>(static_cast<signed char>(__float2int_rn(x)));
}
__device__ inline unsigned char e4m3_byte(float x) {
  const unsigned bits = __float_as_uint(x), sign = bits >> 31 << 7, size = bits & 0x7fffffffu;
  if (size < 0x3c800000u) return static_cast<unsigned char>(sign | __float2int_rn(fabsf(x) * 512.0f));  // below 2⁻⁶
  const unsigned rounded = (size + 0x7ffffu + (size >> 20 & 1u)) >> 20;
  return static_cast<unsigned char>(sign | min(rounded - (120u << 3), 0x7eu));
}
__device__ inline unsigned char to_byte(float x) { return VORTEX_KV == 1 ? integer_byte(x) : e4m3_byte(x); }
constexpr float kMostOfAByte = VORTEX_KV == 1 ? 127.0f : 448.0f;

// The scale of a vector whose largest size is `top`, and what to multiply it by. A vector that is not of numbers has a
// scale of NaN, one of zeros a scale of zero.
struct ByteScale {
  float scale, factor;
  __device__ ByteScale(float top, bool numbers) {
    const bool zeros = !numbers || top < 1e-30f;
    scale = !numbers ? __int_as_float(0x7fc00000) : zeros ? 0.0f : top / kMostOfAByte;
    factor = zeros ? 0.0f : kMostOfAByte / top;
  }
};

// A vector as what it holds, rounded to bf16: what summaries are made of.
struct ScaledVector {
  const unsigned char* bytes;
  float scale;
  __device__ BFloat16 operator[](int channel) const { return to_bfloat16(to_float(bytes[channel]) * scale); }
};

}  // namespace vortex
