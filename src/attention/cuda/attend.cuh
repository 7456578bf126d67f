// Attention of one new token a sequence over listed pages, for any device. A block attends one split of 128 listed
// tokens of one row: four warps of two tiles of 16 tokens each, K and V straight from global memory into the operands'
// registers. join_splits then joins the splits of a row. A row's bits depend on q and the list alone.
#pragma once

#include "attention/cuda/attend_tile.cuh"

namespace vortex::cuda {

constexpr int kAttendWarps = 4;

// grid: splits, kv_heads, sequences; block: 128
extern "C" __global__ void __launch_bounds__(128, kTiles == 1 ? 3 : 2)
    attend(const __grid_constant__ AttendArguments a) {
  __shared__ float sums_of_warp[kAttendWarps][kGroup][kDim];
  __shared__ float tops[kAttendWarps][kGroup], totals[kAttendWarps][kGroup];
  const int split = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z;
  const int warp = threadIdx.x / 32, line = threadIdx.x % 32 / 4, quarter = threadIdx.x % 4;
  const int row = sequence * a.shape.kv_heads + head;
  const int list = a.lists_of_rows ? row : sequence;
  let_next_start();
  wait_for_earlier();

  const int count = a.tokens[list];
  if (split * kSplitTokens >= count) return;
  const int* pages = a.pages + list * a.stride;
  const int longest = static_cast<int>(a.stride) * kPage - 1;

  // Tokens past the end stand on the first of their tile, which is there whenever the tile is.
  const BFloat16 *keys[2][2], *values[2][4];
  int valid[2];
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    const int begin = split * kSplitTokens + (warp + tile * kAttendWarps) * 16;
    valid[tile] = count - begin;
    const auto find = [&](const Plane& plane, int token) {
      const int position = min(begin + (token < valid[tile] ? token : 0), longest);
      return reinterpret_cast<const BFloat16*>(plane.base) + pages[position / kPage] * plane.page_stride +
             head * plane.head_stride + position % kPage * plane.token_stride;
    };
    if (valid[tile] <= 0) continue;
    for (int i = 0; i < 2; ++i) keys[tile][i] = find(a.k, line + 8 * i);
    for (int i = 0; i < 4; ++i) values[tile][i] = find(a.v, quarter * 2 + i % 2 + i / 2 * 8);
  }

  uint4 key[2][2][kDim / 32];
  ValueTile value[2];
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    if (valid[tile] <= 0) continue;
    for (int i = 0; i < 2; ++i) load_row<kDim>(key[tile][i], keys[tile][i], quarter);
  }
  Query q;
  const float factor = a.shape.scale * 1.4426950408889634f;  // weights are powers of two
  const float* const q_row = a.q + sequence * a.q_stride + static_cast<int64>(head) * kGroup * kDim;
  q.load(line, quarter, [&](int of_group, int channel, float(&x)[8]) {
    const float4* from = reinterpret_cast<const float4*>(q_row + of_group * kDim + channel);
    const float4 first = from[0], second = from[1];
    x[0] = first.x * factor, x[1] = first.y * factor, x[2] = first.z * factor, x[3] = first.w * factor;
    x[4] = second.x * factor, x[5] = second.y * factor, x[6] = second.z * factor, x[7] = second.w * factor;
  });
  if (valid[0] > 0) value[0].load(values[0], line);
  float logits[2][kTiles][4];
#pragma unroll
  for (int tile = 0; tile < 2; ++tile) {
    if (valid[tile] <= 0) {
      for (auto& of_columns : logits[tile])
        for (float& x : of_columns) x = -infinity();
      continue;
    }
    q.multiply(key[tile][0], key[tile][1], logits[tile]);
    if (tile == 0 && valid[1] > 0) value[1].load(values[1], line);
    mask(logits[tile], valid[tile], line);
  }
  float top[kHeadTiles][2], total[kHeadTiles][2];
  weigh<2>(logits, top, total);

  float sums[kDim / 64][4][kTiles][4] = {};
#pragma unroll
  for (int t = 0; t < 2; ++t) {
    if (valid[t] <= 0) continue;
    unsigned weights[kTiles][2];
    weights_of(logits[t], quarter, weights);
    value[t].multiply(weights, sums);
  }

  store_tile(sums, top, total, line, quarter, &sums_of_warp[warp][0][0], tops[warp], totals[warp]);
  __syncthreads();

  const int splits = (count + kSplitTokens - 1) / kSplitTokens;
  SplitRuns unused[kJoinItems];
  join_tiles<kAttendWarps>(a, row, split, splits, &sums_of_warp[0][0][0], &tops[0][0], &totals[0][0], threadIdx.x,
                           false, unused);
}

}  // namespace vortex::cuda
