// Attention of one new token a sequence over listed pages, for any device: a block attends one split of 128 listed
// tokens of one row, a tile of 16 tokens a warp, K and V straight from global memory into the operands' registers;
// join_runs joins the splits of a row. A row's bits depend on q and the list alone.
#pragma once

#include "attention/cuda/attend_tile.cuh"

namespace vortex::cuda {

constexpr int kSplitThreads = kTilesOfSplit * 32, kBlocksOfAMultiprocessor = kTiles == 1 && kDim <= 128 ? 2 : 1;

// The page of a listed token, read before it is known whether the list has it.
struct ListedToken {
  int page, place;
  __device__ ListedToken(const int* pages, int position, int longest) {
    position = min(position, longest);
    page = pages[position / kPage], place = position % kPage;
  }
  __device__ const Stored* in(const Plane& plane, int head) const {
    return static_cast<const Stored*>(plane.base) + page * plane.page_stride + head * plane.head_stride +
           place * plane.token_stride;
  }
  __device__ float scale_in(const Plane& plane, int head) const {
    return plane.scales[page * plane.scale_page_stride + head * plane.scale_head_stride + place];
  }
};

// grid: splits, kv_heads, sequences; block: kSplitThreads; shared: 8 · kGroup · kDim floats
extern "C" __global__ void __launch_bounds__(kSplitThreads, kBlocksOfAMultiprocessor)
    attend_splits(const __grid_constant__ AttendArguments a) {
  extern __shared__ float sums_of_tiles[];  // [tiles, group, head_dim]
  __shared__ float tops[kTilesOfSplit][kGroup], totals[kTilesOfSplit][kGroup];
  const int split = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z;
  const int warp = threadIdx.x / 32, line = threadIdx.x % 32 / 4, quarter = threadIdx.x % 4;
  const int row = sequence * a.shape.kv_heads + head;
  const int list = a.lists_of_rows ? row : sequence;
  const int begin = split * kSplitTokens + warp * 16;
  let_next_start();
  wait_for_earlier();

  const int* pages = a.pages + list * a.stride;
  const int longest = static_cast<int>(a.stride) * kPage - 1;
  const int count = a.tokens[list], valid = count - begin;
  const ListedToken first(pages, begin, longest);
  ListedToken of_keys[2] = {first, first}, of_values[4] = {first, first, first, first};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int key = line + 8 * i, value = quarter * 2 + i % 2 + i / 2 * 8;
    if (kPage % 16 == 0) {
      if (i < 2) of_keys[i].place += key;
      of_values[i].place += value;
    } else {
      if (i < 2) of_keys[i] = ListedToken(pages, begin + key, longest);
      of_values[i] = ListedToken(pages, begin + value, longest);
    }
    // Tokens past the end stand on the first of their tile, which is there whenever the tile is.
    if (i < 2 && key >= valid) of_keys[i] = first;
    if (value >= valid) of_values[i] = first;
  }
  EightStored stored[2][kDim / 32];
  ValueTile value;
  TileScales key_scales, value_scales;
  if (valid > 0) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const Stored* const row = of_keys[i].in(a.k, head);
#pragma unroll
      for (int block = 0; block < kDim / 32; ++block)
        stored[i][block] = load_eight_once(row + block * 32 + quarter * 8);
      if (kInBytes)
        key_scales.of[i] = of_keys[i].scale_in(a.k, head), value_scales.of[i] = of_keys[i].scale_in(a.v, head);
    }
    const Stored* rows[4];
    for (int i = 0; i < 4; ++i) rows[i] = of_values[i].in(a.v, head);
    value.load(rows, line);
  }
  if (split * kSplitTokens >= count) return;

  float logits[kTiles][4] = {}, top[kHeadTiles][2], total[kHeadTiles][2], sums[kDim / 64][4][kTiles][4] = {};
  if (valid > 0) {
    Query q;
    q.load(line, quarter,
           QueryRows{a.q + sequence * a.q_stride + static_cast<int64>(head) * kGroup * kDim, factor_of(a)});
    uint4 keys[2][kDim / 32];
    widen_keys(stored, keys);
    q.multiply(keys[0], keys[1], logits);
    key_scales.multiply(logits);
  }
  mask(logits, valid, line);
  weigh(logits, top, total);
  if (valid > 0) {
    value_scales.multiply(logits);
    unsigned weights[kWeightTiles][2];
    weights_of(logits, quarter, weights);
    value.multiply(weights, sums);
  }
  store_tile(sums, top, total, line, quarter, sums_of_tiles + warp * kGroup * kDim, tops[warp], totals[warp]);
  __syncthreads();

  const int splits = (count + kSplitTokens - 1) / kSplitTokens;
  for (int item = threadIdx.x; item < kGroup * kPairs; item += kSplitThreads) {
    const int g = item / kPairs, channel = item % kPairs * 2;
    const float4 sum = join_tiles(sums_of_tiles + g * kDim + channel, kGroup * kDim, &tops[0][0], &totals[0][0], g);
    if (splits == 1) {
      put_row(a, row, g, channel, sum);
    } else {
      put_part(a, row, split, a.splits, g, channel, sum);
    }
  }
}

}  // namespace vortex::cuda
