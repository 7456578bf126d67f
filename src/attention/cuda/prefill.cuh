// Causal attention of a chunk of one sequence over its pages, for any device from sm_80 on. A block takes 64 rows of
// one KV head, a row being a query head of a new token, so that the heads of a group share what is read of K and V;
// four warps of 16 rows go through tiles of 64 keys that copies bring into shared memory one tile ahead. The softmax
// runs along (largest logit and sum so far); q, K, V and the weights enter the matrix unit as bf16. K and V stored in
// bytes are brought as they are and widened; the scale of a key multiplies its logits, that of a value its weights. The
// text around it defines VORTEX_GROUP, VORTEX_HEAD_DIM (64 or 128) and VORTEX_PAGE.
#pragma once

#include "attention/cuda/prefill_arguments.h"
#include "device/cuda/async.cuh"
#include "device/cuda/stored.cuh"

namespace vortex::cuda {

constexpr int kGroup = VORTEX_GROUP, kDim = VORTEX_HEAD_DIM, kPage = VORTEX_PAGE;
constexpr int kRows = 64, kKeys = 64, kThreads = 128;
constexpr int kStride = kDim + 8;  // channels of a key in shared memory: eight keys' 16 bytes lie in different banks
constexpr int kPlane = kKeys * kStride, kStage = 2 * kPlane;
// Shared memory, in bytes: of bf16 two stages; else one, then K and V of a tile as they are stored, and their scales.
constexpr int kStageBytes = kStage * 2, kRawBytes = kInBytes ? kKeys * kDim : 0;  // of K or V

// 16 bytes on their way to shared memory; `there` false: zeros.
__device__ inline void copy_ahead(unsigned to, const void* from, bool there) {
  const int bytes = there ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
__device__ inline void copy_number_ahead(unsigned to, const float* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
__device__ inline void close_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kLeft>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// Four 8 × 8 matrices, one row of 16 bytes an address: lane 8 · i + r gives row r of matrix i.
__device__ inline void load_matrices(unsigned (&to)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
__device__ inline void load_transposed(unsigned (&to)[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

__device__ inline float over_quarters(float x, bool largest) {
  for (int step = 1; step < 4; step *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, x, step);
    x = largest ? fmaxf(x, other) : x + other;
  }
  return x;
}

// grid: count · group / 64, kv_heads; block: 128; shared: as the launcher says
extern "C" __global__ void __launch_bounds__(kThreads, 2) prefill(const __grid_constant__ PrefillArguments a) {
  extern __shared__ __align__(16) unsigned char dynamic[];
  const unsigned shared = shared_address(dynamic);
  const int head = blockIdx.y, first_row = (gridDim.x - 1 - blockIdx.x) * kRows;  // the longest first
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, line = lane / 4, quarter = lane % 4;
  const int rows = a.count * kGroup, last = a.context + a.count - 1;
  let_next_start();
  wait_for_earlier();

  // Rows `line` and line + 8 of this warp; those past the end stand on the last one and are not written.
  int token[2], of_group[2], position[2];
  bool real[2];
  for (int i = 0; i < 2; ++i) {
    const int row = first_row + warp * 16 + line + 8 * i;
    real[i] = row < rows;
    token[i] = min(row, rows - 1) / kGroup, of_group[i] = min(row, rows - 1) % kGroup;
    position[i] = a.context + token[i];
  }
  const float factor = a.shape.scale * 1.4426950408889634f;  // weights are powers of two
  unsigned q[kDim / 16][4];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float* from = a.q + token[i] * a.q_stride + (static_cast<int64>(head) * kGroup + of_group[i]) * kDim;
#pragma unroll
    for (int block = 0; block < kDim / 16; ++block) {
      const float2 x = *reinterpret_cast<const float2*>(from + block * 16 + quarter * 2);
      const float2 y = *reinterpret_cast<const float2*>(from + block * 16 + quarter * 2 + 8);
      q[block][i] = pack_bfloat16(x.x * factor, x.y * factor);
      q[block][i + 2] = pack_bfloat16(y.x * factor, y.y * factor);
    }
  }

  const int tiles = (a.context + min(first_row + kRows - 1, rows - 1) / kGroup) / kKeys + 1;
  const unsigned raw = shared + kStageBytes, raw_scales = raw + 2 * kRawBytes;  // of K, then of V
  __shared__ float scales[2][kKeys];                                            // those of the tile that is widened
  const auto fetch = [&](int tile) {
    constexpr int kOfAPiece = 16 / kStoredBytes, kPieces = kDim / kOfAPiece, kAtOnce = kThreads / kPieces;
    const int piece = threadIdx.x % kPieces;
#pragma unroll
    for (int key = threadIdx.x / kPieces; key < kKeys; key += kAtOnce) {
      const int at = tile * kKeys + key, there = min(at, last);
      const int64 page = a.pages[there / kPage];
      const auto from = [&](const Plane& plane) {
        return static_cast<const Stored*>(plane.base) + page * plane.page_stride + head * plane.head_stride +
               there % kPage * plane.token_stride + piece * kOfAPiece;
      };
      const unsigned to =
          kInBytes ? raw + key * kDim + piece * 16 : shared + ((tile & 1) * kStage + key * kStride + piece * 8) * 2;
      copy_ahead(to, from(a.k), at <= last);
      copy_ahead(to + (kInBytes ? kRawBytes : kPlane * 2), from(a.v), at <= last);
      if (kInBytes && piece == 0) {
        const auto scale = [&](const Plane& plane) {
          return plane.scales + page * plane.scale_page_stride + head * plane.scale_head_stride + there % kPage;
        };
        copy_number_ahead(raw_scales + key * 4, scale(a.k));
        copy_number_ahead(raw_scales + (kKeys + key) * 4, scale(a.v));
      }
    }
    close_copies();
  };
  // A tile that has landed, as bf16.
  const auto widen = [&] {
    const unsigned char* const from = dynamic + kStageBytes;
    constexpr int kPieces = kDim / 8;
#pragma unroll 4
    for (int i = threadIdx.x; i < 2 * kKeys * kPieces; i += kThreads) {
      const int key = i / kPieces % kKeys, piece = i % kPieces, which = i / (kPieces * kKeys);
      *reinterpret_cast<uint4*>(dynamic + (which * kPlane + key * kStride + piece * 8) * 2) =
          widened(*reinterpret_cast<const EightStored*>(from + which * kRawBytes + key * kDim + piece * 8));
    }
    for (int i = threadIdx.x; i < 2 * kKeys; i += kThreads)
      scales[i / kKeys][i % kKeys] = reinterpret_cast<const float*>(from + 2 * kRawBytes)[i];
  };

  float sums[kDim / 8][4] = {}, top[2] = {-infinity(), -infinity()}, total[2] = {};
  fetch(0);
  for (int tile = 0; tile < tiles; ++tile) {
    if (kInBytes) {
      wait_for_copies<0>();
      __syncthreads();
      widen();
      __syncthreads();
      if (tile + 1 < tiles) fetch(tile + 1);
    } else {
      if (tile + 1 < tiles) {
        fetch(tile + 1);
        wait_for_copies<1>();
      } else {
        wait_for_copies<0>();
      }
      __syncthreads();
    }
    const unsigned keys = shared + (kInBytes ? 0 : tile & 1) * kStageBytes, values = keys + kPlane * 2;

    float logits[kKeys / 8][4] = {};
#pragma unroll
    for (int part = 0; part < kKeys / 8; ++part) {
#pragma unroll
      for (int block = 0; block < kDim / 32; ++block) {
        unsigned k[4];
        load_matrices(k, keys + ((part * 8 + lane % 8) * kStride + block * 32 + lane / 8 * 8) * 2);
        const auto& low = q[block * 2];
        const auto& high = q[block * 2 + 1];
        multiply_add(logits[part], low[0], low[1], low[2], low[3], k[0], k[1]);
        multiply_add(logits[part], high[0], high[1], high[2], high[3], k[2], k[3]);
      }
    }
    if (kInBytes) {
#pragma unroll
      for (int part = 0; part < kKeys / 8; ++part) {
        for (int i = 0; i < 4; ++i) logits[part][i] *= scales[0][part * 8 + quarter * 2 + i % 2];
      }
    }
    if (tile * kKeys + kKeys - 1 > position[0]) {
#pragma unroll
      for (int part = 0; part < kKeys / 8; ++part) {
        for (int i = 0; i < 4; ++i)
          if (tile * kKeys + part * 8 + quarter * 2 + i % 2 > position[i / 2]) logits[part][i] = -infinity();
      }
    }

    float shrink[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float largest = top[i];
#pragma unroll
      for (int part = 0; part < kKeys / 8; ++part)
        largest = fmaxf(largest, fmaxf(logits[part][2 * i], logits[part][2 * i + 1]));
      largest = over_quarters(largest, true);  // finite: key 0 is in the first tile and every row attends it
      shrink[i] = exp2f(top[i] - largest);
      top[i] = largest;
      float sum = 0.0f;
#pragma unroll
      for (int part = 0; part < kKeys / 8; ++part) {
        sum += logits[part][2 * i] = exp2f(logits[part][2 * i] - largest);
        sum += logits[part][2 * i + 1] = exp2f(logits[part][2 * i + 1] - largest);
      }
      total[i] = total[i] * shrink[i] + sum;
    }
#pragma unroll
    for (auto& of_channels : sums) {
      of_channels[0] *= shrink[0], of_channels[1] *= shrink[0];
      of_channels[2] *= shrink[1], of_channels[3] *= shrink[1];
    }
#pragma unroll
    for (int block = 0; block < kKeys / 16; ++block) {
      auto &even = logits[block * 2], &odd = logits[block * 2 + 1];
      if (kInBytes) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          even[i] *= scales[1][block * 16 + quarter * 2 + i % 2],
              odd[i] *= scales[1][block * 16 + 8 + quarter * 2 + i % 2];
        }
      }
      const unsigned w0 = pack_bfloat16(even[0], even[1]), w1 = pack_bfloat16(even[2], even[3]);
      const unsigned w2 = pack_bfloat16(odd[0], odd[1]), w3 = pack_bfloat16(odd[2], odd[3]);
#pragma unroll
      for (int part = 0; part < kDim / 16; ++part) {
        unsigned v[4];
        load_transposed(v, values + ((block * 16 + lane % 16) * kStride + part * 16 + lane / 16 * 8) * 2);
        multiply_add(sums[part * 2], w0, w1, w2, w3, v[0], v[1]);
        multiply_add(sums[part * 2 + 1], w0, w1, w2, w3, v[2], v[3]);
      }
    }
    __syncthreads();  // before the next copies take this tile's place
  }

  const int channels = a.shape.kv_heads * kGroup * kDim;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const float inverse = 1.0f / over_quarters(total[i], false);
    if (!real[i]) continue;
    const int flat = a.first + token[i], row = flat % a.operand_rows;
    unsigned short* const to = a.operand + static_cast<int64>(flat / a.operand_rows) * a.operand_rows * channels;
#pragma unroll
    for (int part = 0; part < kDim / 8; ++part) {
      const int channel = (head * kGroup + of_group[i]) * kDim + part * 8;
      const int64 at =
          ((static_cast<int64>(channel / 64) * a.operand_rows + row) * 8 + ((channel % 64 / 8) ^ (row & 7))) * 8;
      *reinterpret_cast<unsigned*>(to + at + quarter * 2) =
          pack_bfloat16(sums[part][2 * i] * inverse, sums[part][2 * i + 1] * inverse);
    }
  }
}

}  // namespace vortex::cuda
