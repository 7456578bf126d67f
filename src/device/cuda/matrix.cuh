// The matrix unit for a warp: products of 16 × 16 and 16 × 8 blocks of bf16 with float32 sums, and the operands made of
// 16-byte loads. Lane = 4 · line + quarter throughout. sm_80 and newer.
#pragma once

#include "device/cuda/device.cuh"

namespace vortex {

// sum[0], sum[1]: rows `line`, columns 2 · quarter and the next; sum[2], sum[3]: rows line + 8.
// a: rows line, line + 8 at columns 2·quarter.., then the same at columns 8 + 2·quarter..; b: rows 2·quarter.. and 8 +
// 2·quarter.. at column `line`.
__device__ inline void multiply_add(float (&sum)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0,
                                    unsigned b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

// Two floats as bf16, the first in the low half.
__device__ inline unsigned pack_bfloat16(float first, float second) {
  unsigned out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(second), "f"(first));
  return out;
}
__device__ inline float low_bfloat16(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_bfloat16(unsigned pair) { return __uint_as_float(pair & 0xffff0000u); }
// What rounding left of the two.
__device__ inline unsigned pack_remainder(float first, float second, unsigned rounded) {
  return pack_bfloat16(first - low_bfloat16(rounded), second - high_bfloat16(rounded));
}
// The 8 × 8 matrix whose line `line` holds columns 2·quarter and the next in this lane, transposed.
__device__ inline unsigned transpose_lanes(unsigned pair) {
  unsigned out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(pair));
  return out;
}

// 16 bytes that are read once: they do not stay in the first cache.
__device__ inline uint4 load_once(const void* from) {
  uint4 out;
  asm volatile("ld.global.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(out.x), "=r"(out.y), "=r"(out.z), "=r"(out.w)
               : "l"(from));
  return out;
}

// Values of a row [kHeads, kDim] as the narrow operand of a warp: 8 columns a tile. Up to 8 heads enter as the sum of
// two bf16 (a column each, so that a product is as exact as float32), up to 16 rounded. Channels are dealt to lanes as
// 16-byte loads bring them: lane quarter q holds channels 32 · block + 8 · q ...
template <int kHeads, int kDim>
struct RowOperand {
  static_assert(kDim % 32 == 0 && kHeads <= 16, "refused by the launcher");
  static constexpr int kTiles = kHeads <= 4 ? 1 : 2;
  static constexpr bool kTwice = kHeads <= 8;
  static constexpr int kHeadTiles = kTwice ? 1 : kTiles;  // tiles of sums that are left when remainders are added
  unsigned words[kTiles][kDim / 16][2];

  // Head of a column; `remainder`: the column holds what rounding left.
  __device__ static int head_of(int tile, int column, bool& remainder) {
    if (kHeads <= 4) {
      remainder = column >= 4;
      return column & 3;
    }
    remainder = kTwice && tile == 1;
    return kTwice ? column : tile * 8 + column;
  }

  // read(head, channel, x): eight neighbouring channels.
  template <class Read>
  __device__ void load(int line, int quarter, Read read) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      bool remainder;
      const int head = head_of(tile, line, remainder);
#pragma unroll
      for (int block = 0; block < kDim / 32; ++block) {
        float x[8] = {};
        if (head < kHeads) read(head, block * 32 + quarter * 8, x);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const unsigned rounded = pack_bfloat16(x[2 * i], x[2 * i + 1]);
          words[tile][block * 2 + i / 2][i % 2] = remainder ? pack_remainder(x[2 * i], x[2 * i + 1], rounded) : rounded;
        }
      }
    }
  }

  // Sums over kDim of rows `line` and line + 8, brought by load_row, with this operand's columns. Every lane that holds
  // a head's column ends with the whole sum: sums[tile][i]: row line + i / 2 · 8, column 2 · quarter + i % 2.
  __device__ void multiply(const uint4 (&first)[kDim / 32], const uint4 (&second)[kDim / 32],
                           float (&sums)[kTiles][4]) const {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      for (float& x : sums[tile]) x = 0.0f;
#pragma unroll
      for (int block = 0; block < kDim / 32; ++block) {
        const uint4 &a = first[block], &b = second[block];
        multiply_add(sums[tile], a.x, b.x, a.y, b.y, words[tile][block * 2][0], words[tile][block * 2][1]);
        multiply_add(sums[tile], a.z, b.z, a.w, b.w, words[tile][block * 2 + 1][0], words[tile][block * 2 + 1][1]);
      }
    }
    if (kHeads <= 4) {
      for (float& x : sums[0]) x += __shfl_xor_sync(0xffffffffu, x, 2);
    } else if (kTwice) {
      for (int i = 0; i < 4; ++i) sums[0][i] += sums[kTiles - 1][i];
    }
  }
};

// A row of kDim channels as this lane's part of the tall operand.
template <int kDim>
__device__ inline void load_row(uint4 (&words)[kDim / 32], const BFloat16* row, int quarter) {
#pragma unroll
  for (int block = 0; block < kDim / 32; ++block) words[block] = load_once(row + block * 32 + quarter * 8);
}

}  // namespace vortex
