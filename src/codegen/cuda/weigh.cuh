// Σ over candidates of a number of each row head and a vector of each page, by a whole block: what a rest is made of.
#pragma once

#include "device/cuda/device.cuh"

namespace vortex::cuda {

constexpr int kMostWeighingWarps = 8;

__device__ inline int weighing_warps(const Block& team) { return min(team.size / 32, kMostWeighingWarps); }

// Joins the warps' sums: write(a, b, Σ over warps), b being column_of(lane, k) of the sum k of a lane; kRight and more:
// of no column.
template <int kRight, int kLeft, int kColumns, class ColumnOf, class Write>
__device__ inline void join_warps(const Block& team, const float (&sums)[kLeft][kColumns], ColumnOf column_of,
                                  Write write) {
  __shared__ float of_warp[kMostWeighingWarps][kRight];
  const int lane = team.thread % 32, warp = team.thread / 32, warps = weighing_warps(team);
#pragma unroll
  for (int a = 0; a < kLeft; ++a) {
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const int b = column_of(lane, k);
      if (warp < warps && b < kRight) of_warp[warp][b] = sums[a][k];
    }
    __syncthreads();
    for (int b = team.thread; b < kRight; b += team.size) {
      float sum = 0.0f;
      for (int w = 0; w < warps; ++w) sum += of_warp[w][b];
      write(a, b, sum);
    }
    __syncthreads();
  }
}

// write(a, b, Σ over i in [0, n) of left(i, a) · right(i, b)): a below kLeft, b below kRight. A warp has 32 candidates
// at a time, a lane the left numbers of one of them and columns b = lane + 32 · k of all.
template <int kLeft, int kRight, class Left, class Right, class Write>
__device__ inline void weigh_pages(const Block& team, int n, Left left, Right right, Write write) {
  constexpr int kColumns = (kRight + 31) / 32;
  const int lane = team.thread % 32, warp = team.thread / 32, warps = weighing_warps(team);
  float sums[kLeft][kColumns] = {};
  for (int first = warp * 32; warp < warps && first < n; first += warps * 32) {
    float weights[kLeft];
#pragma unroll
    for (int a = 0; a < kLeft; ++a) weights[a] = first + lane < n ? left(first + lane, a) : 0.0f;
    const int count = min(32, n - first);
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      float x[kColumns];
#pragma unroll
      for (int k = 0; k < kColumns; ++k) {
        const int b = lane + 32 * k;
        x[k] = kRight % 32 == 0 || b < kRight ? right(first + i, b) : 0.0f;
      }
#pragma unroll
      for (int a = 0; a < kLeft; ++a) {
        const float weight = __shfl_sync(0xffffffffu, weights[a], i);
#pragma unroll
        for (int k = 0; k < kColumns; ++k) sums[a][k] += weight * x[k];
      }
    }
  }
  join_warps<kRight>(
      team, sums, [](int lane, int k) { return lane + 32 * k; }, write);
}

// The same where the vectors lie in memory, kRight numbers of bf16 from vector_of(i) on, 32, 64, 128 or 256 of them: a
// lane has neighbouring columns.
template <int kLeft, int kRight, class Left, class VectorOf, class Write>
__device__ inline void weigh_vectors(const Block& team, int n, Left left, VectorOf vector_of, Write write) {
  constexpr int kColumns = kRight / 32;
  struct alignas(kColumns * 2) Part {
    BFloat16 x[kColumns];
  };
  const int lane = team.thread % 32, warp = team.thread / 32, warps = weighing_warps(team);
  float sums[kLeft][kColumns] = {};
  for (int first = warp * 32; warp < warps && first < n; first += warps * 32) {
    float weights[kLeft];
#pragma unroll
    for (int a = 0; a < kLeft; ++a) weights[a] = first + lane < n ? left(first + lane, a) : 0.0f;
    const unsigned long long mine = reinterpret_cast<unsigned long long>(vector_of(min(first + lane, n - 1)));
    const int count = min(32, n - first);
#pragma unroll 8
    for (int i = 0; i < count; ++i) {
      const Part part = reinterpret_cast<const Part*>(__shfl_sync(0xffffffffu, mine, i))[lane];
#pragma unroll
      for (int a = 0; a < kLeft; ++a) {
        const float weight = __shfl_sync(0xffffffffu, weights[a], i);
#pragma unroll
        for (int k = 0; k < kColumns; ++k) sums[a][k] += weight * to_float(part.x[k]);
      }
    }
  }
  join_warps<kRight>(
      team, sums, [](int lane, int k) { return lane * kColumns + k; }, write);
}

}  // namespace vortex::cuda
