// Attention of one new token a sequence over listed pages: a block attends one split of 128 listed tokens of one row, a
// tile of 16 tokens a warp, K and V straight from global memory into the operands' registers. On sm_90 a cluster of
// blocks has the splits of a run and joins them through its shared memory, which is quickest while there are blocks for
// all splits at once (attend_ring.cuh otherwise); on older devices it serves any number, and join_runs joins the
// splits. A row's bits depend on q and the list alone.
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
  __device__ const BFloat16* in(const Plane& plane, int head) const {
    return reinterpret_cast<const BFloat16*>(plane.base) + page * plane.page_stride + head * plane.head_stride +
           place * plane.token_stride;
  }
};

// Of a cluster's blocks, kBlocks side by side along x, each has a split; 1: there are no clusters.
template <int kBlocks>
__device__ inline void attend_split(const AttendArguments& a) {
  extern __shared__ float sums_of_tiles[];  // [tiles, group, head_dim]; then, as its first tile, the split's sums
  __shared__ float tops[kTilesOfSplit][kGroup], totals[kTilesOfSplit][kGroup];
  __shared__ float2 of_split[kGroup];  // largest logit, sum of weights
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
  uint4 keys[2][kDim / 32];
  ValueTile value;
  if (valid > 0) {
    for (int i = 0; i < 2; ++i) load_row<kDim>(keys[i], of_keys[i].in(a.k, head), quarter);
    const BFloat16* rows[4];
    for (int i = 0; i < 4; ++i) rows[i] = of_values[i].in(a.v, head);
    value.load(rows, line);
  }
  if (split * kSplitTokens >= count) return;

  float logits[kTiles][4] = {}, top[kHeadTiles][2], total[kHeadTiles][2], sums[kDim / 64][4][kTiles][4] = {};
  if (valid > 0) {
    Query q;
    q.load(line, quarter,
           QueryRows{a.q + sequence * a.q_stride + static_cast<int64>(head) * kGroup * kDim, factor_of(a)});
    q.multiply(keys[0], keys[1], logits);
  }
  mask(logits, valid, line);
  weigh(logits, top, total);
  if (valid > 0) {
    unsigned weights[kTiles][2];
    weights_of(logits, quarter, weights);
    value.multiply(weights, sums);
  }
  store_tile(sums, top, total, line, quarter, sums_of_tiles + warp * kGroup * kDim, tops[warp], totals[warp]);
  __syncthreads();

  const int splits = (count + kSplitTokens - 1) / kSplitTokens;
  for (int item = threadIdx.x; item < kGroup * kPairs; item += kSplitThreads) {
    const int g = item / kPairs, channel = item % kPairs * 2;
    const float4 sum = join_tiles(sums_of_tiles, &tops[0][0], &totals[0][0], g, channel);
    if (splits == 1) {
      put_row(a, row, g, channel, sum);
    } else if (kBlocks == 1) {
      put_part(a, row, split, a.splits, g, channel, sum);
    } else {
      *reinterpret_cast<float2*>(sums_of_tiles + g * kDim + channel) = make_float2(sum.z, sum.w);
      if (channel == 0) of_split[g] = make_float2(sum.x, sum.y);
    }
  }
#if __CUDA_ARCH__ >= 900
  if (kBlocks == 1 || splits == 1) return;
  cluster_arrive();
  cluster_wait();
  const int run = split / kRunSplits, rank = split % kBlocks, blocks = min(splits - run * kRunSplits, kBlocks);
  const int runs = (splits + kRunSplits - 1) / kRunSplits;
  // Each block joins its share of the channels.
  const int share = (kGroup * kPairs + blocks - 1) / blocks, end = min((rank + 1) * share, kGroup * kPairs);
  for (int item = rank * share + threadIdx.x; item < end; item += kSplitThreads) {
    const int g = item / kPairs, channel = item % kPairs * 2;
    const unsigned values = shared_address(sums_of_tiles + g * kDim + channel), weights = shared_address(&of_split[g]);
    float2 x[kBlocks], w[kBlocks];
#pragma unroll
    for (int other = 0; other < kBlocks; ++other) {
      if (other >= blocks) continue;
      x[other] = read_pair_in_cluster(address_in(values, other));
      w[other] = read_pair_in_cluster(address_in(weights, other));
    }
    SplitSum sum;
#pragma unroll
    for (int other = 0; other < kBlocks; ++other) {
      if (other < blocks) sum.join(make_float4(w[other].x, w[other].y, x[other].x, x[other].y));
    }
    if (runs == 1) {
      put_row(a, row, g, channel, sum.sum);
    } else {
      put_part(a, row, run, (a.splits + kRunSplits - 1) / kRunSplits, g, channel, sum.sum);
    }
  }
  cluster_arrive();
  cluster_wait();
#endif
}

// grid: splits, rounded up to whole clusters; kv_heads; sequences. block: kSplitThreads. shared: 8 · kGroup · kDim
// floats
#if __CUDA_ARCH__ >= 900
extern "C" __global__ void __cluster_dims__(4, 1, 1) __launch_bounds__(kSplitThreads, kBlocksOfAMultiprocessor)
    attend_cluster4(const __grid_constant__ AttendArguments a) {
  attend_split<4>(a);
}
extern "C" __global__ void __cluster_dims__(8, 1, 1) __launch_bounds__(kSplitThreads, kBlocksOfAMultiprocessor)
    attend_cluster8(const __grid_constant__ AttendArguments a) {
  attend_split<8>(a);
}
#else
extern "C" __global__ void __launch_bounds__(kSplitThreads, kBlocksOfAMultiprocessor)
    attend_splits(const __grid_constant__ AttendArguments a) {
  attend_split<1>(a);
}
#endif

}  // namespace vortex::cuda
