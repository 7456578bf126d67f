// What both attends share: tiles of 16 listed tokens on the matrix unit, and how tiles and splits are joined. The text
// around it defines VORTEX_GROUP (at most 16), VORTEX_HEAD_DIM (a multiple of 64) and VORTEX_PAGE (tokens of a physical
// page). Up to a group of 8, q and the weights enter as the sum of two bf16, so that only K and V are rounded.
// K and V stored in bytes are as exact: the scale of a key multiplies its logit, that of a value its weight, which then
// enters as the sum of two bf16 for any group: a weight of 1 is no number of bf16 any more.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "device/cuda/async.cuh"
#include "device/cuda/stored.cuh"

namespace vortex::cuda {

constexpr int kGroup = VORTEX_GROUP, kDim = VORTEX_HEAD_DIM, kPage = VORTEX_PAGE;
constexpr int kSplitTokens = 128;  // of a split: eight tiles
constexpr int kTilesOfSplit = kSplitTokens / 16, kRunSplits = 8;
using Query = RowOperand<kGroup, kDim>;
constexpr int kTiles = Query::kTiles, kHeadTiles = Query::kHeadTiles;
constexpr bool kTwice = Query::kTwice;
constexpr int kWeightTiles = kInBytes && !kTwice ? 2 * kTiles : kTiles;  // those past kTiles: what rounding left
static_assert(kDim % 64 == 0 && kGroup <= 16, "refused by the launcher");

__device__ inline unsigned word_of(const uint4& x, int i) { return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w; }

// Tokens 2·quarter, 2·quarter + 1, and the same + 8 of a tile of values.
struct ValueTile {
  EightStored words[4][kDim / 64];
  __device__ void load(const Stored* const (&rows)[4], int line) {
#pragma unroll
    for (int block = 0; block < kDim / 64; ++block) {
#pragma unroll
      for (int row = 0; row < 4; ++row) words[row][block] = load_eight_once(rows[row] + block * 64 + line * 8);
    }
  }
  // Row `line` of product i of a block is channel 8 · line + i, row line + 8 channel 8 · line + i + 4.
  __device__ void multiply(const unsigned (&weights)[kWeightTiles][2], float (&sums)[kDim / 64][4][kTiles][4]) const {
#pragma unroll
    for (int block = 0; block < kDim / 64; ++block) {
      uint4 wide[4];
#pragma unroll
      for (int row = 0; row < 4; ++row) wide[row] = widened(words[row][block]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const unsigned order = i % 2 == 0 ? 0x5410u : 0x7632u;
        unsigned a[4];
#pragma unroll
        for (int part = 0; part < 4; ++part) {
          const int row = part / 2 * 2, word = i / 2 + part % 2 * 2;
          a[part] = __byte_perm(word_of(wide[row], word), word_of(wide[row + 1], word), order);
        }
#pragma unroll
        for (int tile = 0; tile < kWeightTiles; ++tile)
          multiply_add(sums[block][i][tile % kTiles], a[0], a[1], a[2], a[3], weights[tile][0], weights[tile][1]);
      }
    }
  }
};

__device__ inline float over_lines(float x, bool largest) {
  for (int step = 4; step < 32; step *= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, x, step);
    x = largest ? fmaxf(x, other) : x + other;
  }
  return x;
}

// One value of two channels of a row's output.
__device__ inline void put(const AttendArguments& a, int sequence, int channel, float first, float second) {
  if (a.out != nullptr) {
    float* to = a.out + static_cast<int64>(sequence) * a.shape.kv_heads * kGroup * kDim + channel;
    to[0] = first, to[1] = second;
  }
  if (a.operand != nullptr) {
    const int at = ((channel / 64 * a.operand_rows + sequence) * 8 + ((channel % 64 / 8) ^ (sequence & 7))) * 8;
    *reinterpret_cast<unsigned*>(a.operand + at + channel % 8) = pack_bfloat16(first, second);
  }
}

// Of the vectors of tokens `line` and line + 8 of a tile: what logits of columns, or weights, are multiplied by.
struct TileScales {
  float of[2] = {1.0f, 1.0f};
  __device__ void multiply(float (&columns)[kTiles][4]) const {
    if constexpr (kInBytes) {
#pragma unroll
      for (auto& of_columns : columns) {
#pragma unroll
        for (int i = 0; i < 4; ++i) of_columns[i] *= of[i / 2];
      }
    }
  }
};

// Logits of columns, `line` and line + 8 being tokens of a tile; those past the end weigh nothing.
__device__ inline void mask(float (&logits)[kTiles][4], int valid, int line) {
  for (auto& of_columns : logits)
    for (int i = 0; i < 4; ++i)
      if (line + i / 2 * 8 >= valid) of_columns[i] = -infinity();
}

// The weights of kParts tiles, in place of their logits; the largest logit and the sum of weights of each column.
template <int kParts>
__device__ inline void weigh(float (&logits)[kParts][kTiles][4], float (&top)[kHeadTiles][2],
                             float (&total)[kHeadTiles][2]) {
#pragma unroll
  for (int tile = 0; tile < kHeadTiles; ++tile) {
    for (int i = 0; i < 2; ++i) {
      float largest = -infinity();
      for (int part = 0; part < kParts; ++part)
        largest = fmaxf(largest, fmaxf(logits[part][tile][i], logits[part][tile][i + 2]));
      largest = top[tile][i] = over_lines(largest, true);
      if (isinf(largest)) largest = 0.0f;
      float sum = 0.0f;
      for (int part = 0; part < kParts; ++part) {
        for (int k = i; k < 4; k += 2) sum += logits[part][tile][k] = exp2f(logits[part][tile][k] - largest);
      }
      total[tile][i] = over_lines(sum, false);
    }
  }
}
__device__ inline void weigh(float (&logits)[kTiles][4], float (&top)[kHeadTiles][2], float (&total)[kHeadTiles][2]) {
  weigh<1>(reinterpret_cast<float(&)[1][kTiles][4]>(logits), top, total);
}

// A tile's weights as the narrow operand of the product with its values.
__device__ inline void weights_of(const float (&logits)[kTiles][4], int quarter, unsigned (&weights)[kWeightTiles][2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    for (int tile = 0; tile < kWeightTiles; ++tile) {
      const float *w = logits[kTwice ? 0 : tile % kTiles], first = w[half * 2], second = w[half * 2 + 1];
      const unsigned rounded = pack_bfloat16(first, second);
      bool remainder = tile >= kTiles;
      if (!remainder) Query::head_of(tile, quarter * 2, remainder);
      weights[tile][half] = transpose_lanes(remainder ? pack_remainder(first, second, rounded) : rounded);
    }
  }
}

// What a warp has of a tile: channels(head, channel, first four, last four) and weights(head, largest logit, sum of
// weights).
template <class Channels, class Weights>
__device__ inline void give_tile(const float (&sums)[kDim / 64][4][kTiles][4], const float (&top)[kHeadTiles][2],
                                 const float (&total)[kHeadTiles][2], int line, int quarter, Channels channels,
                                 Weights weights) {
#pragma unroll
  for (int tile = 0; tile < kHeadTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      bool remainder;
      const int head = Query::head_of(tile, quarter * 2 + i, remainder);
      const bool mine = head < kGroup && !remainder;
      if (mine && line == 0) weights(head, top[tile][i], total[tile][i]);
#pragma unroll
      for (int block = 0; block < kDim / 64; ++block) {
        float x[8];
#pragma unroll
        for (int k = 0; k < 8; ++k) {
          const auto& from = sums[block][k % 4];
          x[k] = from[tile][k / 4 * 2 + i];
          if (kGroup <= 4) x[k] += __shfl_xor_sync(0xffffffffu, x[k], 2);
          if (kGroup > 4 && kTwice) x[k] += from[kTiles - 1][k / 4 * 2 + i];
        }
        if (mine)
          channels(head, block * 64 + line * 8, make_float4(x[0], x[1], x[2], x[3]),
                   make_float4(x[4], x[5], x[6], x[7]));
      }
    }
  }
}
// To shared memory: to [group, head_dim], tops and totals [group].
__device__ inline void store_tile(const float (&sums)[kDim / 64][4][kTiles][4], const float (&top)[kHeadTiles][2],
                                  const float (&total)[kHeadTiles][2], int line, int quarter, float* to, float* tops,
                                  float* totals) {
  give_tile(
      sums, top, total, line, quarter,
      [&](int head, int channel, const float4& first, const float4& last) {
        float4* place = reinterpret_cast<float4*>(to + head * kDim + channel);
        place[0] = first, place[1] = last;
      },
      [&](int head, float largest, float sum) { tops[head] = largest, totals[head] = sum; });
}

// A query head's part of q for Query::load, in the order of its lanes.
struct QueryRows {
  const float* q;  // [group, head_dim]
  float factor;
  __device__ void operator()(int head, int channel, float (&x)[8]) const {
    const float4* from = reinterpret_cast<const float4*>(q + head * kDim + channel);
    const float4 first = from[0], second = from[1];
    const float all[8] = {first.x, first.y, first.z, first.w, second.x, second.y, second.z, second.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) x[i] = __fmul_rn(all[i], factor);
  }
};
__device__ inline float factor_of(const AttendArguments& a) {
  return a.shape.scale * 1.4426950408889634f;  // weights are powers of two
}

// Keys of a tile, the same that lanes of load_row bring.
__device__ inline void widen_keys(const EightStored (&stored)[2][kDim / 32], uint4 (&keys)[2][kDim / 32]) {
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int block = 0; block < kDim / 32; ++block) keys[i][block] = widened(stored[i][block]);
  }
}

// A tile of 16 tokens in shared memory: K, V, then scales of K and of V where there are any.
constexpr int kPlaneBytes = 16 * kDim * kStoredBytes, kTileBytes = 2 * kPlaneBytes + 2 * 16 * kScaleBytes;
__device__ inline TileScales tile_scales(const unsigned char* tile, int which, int valid, int line) {
  TileScales out;
  if (kInBytes) {
    const float* const scales = reinterpret_cast<const float*>(tile + 2 * kPlaneBytes) + which * 16;
    for (int i = 0; i < 2; ++i) out.of[i] = line + 8 * i < valid ? scales[line + 8 * i] : 0.0f;  // never written
  }
  return out;
}
__device__ inline void attend_tile(const unsigned char* tile_bytes, const Query& q, int valid, int line, int quarter,
                                   float (&top)[kHeadTiles][2], float (&total)[kHeadTiles][2],
                                   float (&sums)[kDim / 64][4][kTiles][4]) {
  const Stored* const tile = reinterpret_cast<const Stored*>(tile_bytes);
  float logits[kTiles][4] = {};
  if (valid > 0) {
    EightStored stored[2][kDim / 32];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int block = 0; block < kDim / 32; ++block)
        stored[i][block] =
            *reinterpret_cast<const EightStored*>(tile + (line + 8 * i) * kDim + block * 32 + quarter * 8);
    }
    uint4 keys[2][kDim / 32];
    widen_keys(stored, keys);
    q.multiply(keys[0], keys[1], logits);
    tile_scales(tile_bytes, 0, valid, line).multiply(logits);
  }
  mask(logits, valid, line);
  weigh(logits, top, total);
  if (valid <= 0) return;
  tile_scales(tile_bytes, 1, valid, line).multiply(logits);
  unsigned weights[kWeightTiles][2];
  weights_of(logits, quarter, weights);
  ValueTile value;
#pragma unroll
  for (int row = 0; row < 4; ++row) {
    const int token = quarter * 2 + row % 2 + row / 2 * 8;
#pragma unroll
    for (int block = 0; block < kDim / 64; ++block)
      value.words[row][block] =
          *reinterpret_cast<const EightStored*>(tile + 16 * kDim + token * kDim + block * 64 + line * 8);
    if (token >= valid) {  // never written: 0 · NaN would be NaN
      for (int block = 0; block < kDim / 64; ++block) value.words[row][block] = EightStored{};
    }
  }
  value.multiply(weights, sums);
}

// The order of sums, which the number of listed tokens alone decides, whatever kernel adds them: the tiles of a split
// all at once; the splits of a run of kRunSplits in ascending order; the runs of a row in kJoinParts parts, in
// ascending order within a part, then the parts in ascending order.
constexpr int kPairs = kDim / 2, kJoinParts = 8;

// Part of a row's sums for two channels: largest logit, sum of weights, weighted values.
struct SplitSum {
  float4 sum = make_float4(-infinity(), 0.0f, 0.0f, 0.0f);
  __device__ void join(const float4& x) {
    const float largest = fmaxf(sum.x, x.x);
    const float mine = sum.x == largest ? 1.0f : exp2f(sum.x - largest),
                other = x.x == largest ? 1.0f : exp2f(x.x - largest);
    if (isinf(x.x)) return;
    const auto both = [&](float a, float b) { return __fmaf_rn(a, mine, __fmul_rn(b, other)); };
    sum = make_float4(largest, both(sum.y, x.y), both(sum.z, x.z), both(sum.w, x.w));
  }
};

// The tiles of a split at head g and two channels: sums lie `stride` apart, tops and totals are [tiles, group].
__device__ inline float4 join_tiles(const float* sums, int stride, const float* tops, const float* totals, int g) {
  float largest = -infinity(), sum = 0.0f, first = 0.0f, second = 0.0f;
#pragma unroll
  for (int tile = 0; tile < kTilesOfSplit; ++tile) largest = fmaxf(largest, tops[tile * kGroup + g]);
#pragma unroll
  for (int tile = 0; tile < kTilesOfSplit; ++tile) {
    const float factor = exp2f(tops[tile * kGroup + g] - largest);
    const float2 x = *reinterpret_cast<const float2*>(sums + tile * stride);
    sum = __fmaf_rn(totals[tile * kGroup + g], factor, sum);
    first = __fmaf_rn(x.x, factor, first);
    second = __fmaf_rn(x.y, factor, second);
  }
  return make_float4(largest, sum, first, second);
}

// Two channels of a row's output, from the sums of all it lists and the rest. Without a rest no bit is another.
__device__ inline void put_row(const AttendArguments& a, int row, int g, int channel, const float4& sum) {
  const int sequence = row / a.shape.kv_heads, head = row % a.shape.kv_heads;
  SplitSum all;
  all.sum = sum;
  if (a.rest != nullptr) {
    const float* const rest = a.rest + static_cast<int64>(row) * kGroup * (1 + kDim);
    const float* const value = rest + kGroup + g * kDim + channel;
    const float logit = rest[g] * 1.4426950408889634f;
    if (!isinf(logit)) all.join(make_float4(logit, 1.0f, value[0], value[1]));
  }
  put(a, sequence, (head * kGroup + g) * kDim + channel, all.sum.z / all.sum.y, all.sum.w / all.sum.y);
}
// Into the row's partial results, of which a row has `most` at most.
__device__ inline void put_part(const AttendArguments& a, int row, int part, int most, int g, int channel,
                                const float4& sum) {
  float* to = a.partial + ((static_cast<int64>(row) * most + part) * kGroup + g) * (kDim + 2);
  *reinterpret_cast<float2*>(to + channel) = make_float2(sum.z, sum.w);
  if (channel == 0) *reinterpret_cast<float2*>(to + kDim) = make_float2(sum.x, sum.y);
}

// Joins the partial results of a row, of runs or of splits, where there are more than one; other rows are done
// already. A block is small enough to stand ready beside one of the ring. grid: kv_heads ·
// group · head_dim / 64, sequences; block: kJoinParts · 32
extern "C" __global__ void __launch_bounds__(kJoinParts * 32) join_runs(const __grid_constant__ AttendArguments a) {
  __shared__ float4 of_part[kJoinParts][32];
  const int of_row = blockIdx.x / (kDim / 64), head = of_row / kGroup, g = of_row % kGroup, sequence = blockIdx.y;
  const int row = sequence * a.shape.kv_heads + head, part = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int channel = blockIdx.x % (kDim / 64) * 64 + lane * 2;
  let_next_start();
  wait_for_earlier();
  const bool of_runs = a.parts_of_runs != 0;
  const int splits = (a.tokens[a.lists_of_rows ? row : sequence] + kSplitTokens - 1) / kSplitTokens;
  const int runs = (splits + kRunSplits - 1) / kRunSplits;
  if ((of_runs ? runs : splits) <= 1) return;
  const int most = of_runs ? (a.splits + kRunSplits - 1) / kRunSplits : a.splits;
  const int64 stride = kGroup * (kDim + 2);
  const float* const from = a.partial + (static_cast<int64>(row) * most * kGroup + g) * (kDim + 2);
  SplitSum sum;
  const int begin = runs * part / kJoinParts, end = runs * (part + 1) / kJoinParts;
  const auto part_at = [&](int at) {
    const float2 weights = __ldcg(reinterpret_cast<const float2*>(from + at * stride + kDim));
    const float2 x = __ldcg(reinterpret_cast<const float2*>(from + at * stride + channel));
    return make_float4(weights.x, weights.y, x.x, x.y);
  };
  if (of_runs) {
#pragma unroll 4
    for (int run = begin; run < end; ++run) sum.join(part_at(run));
  } else {
    for (int run = begin; run < end; ++run) {
      SplitSum of_run;
#pragma unroll 4
      for (int split = run * kRunSplits; split < min(splits, (run + 1) * kRunSplits); ++split)
        of_run.join(part_at(split));
      sum.join(of_run.sum);
    }
  }
  of_part[part][lane] = sum.sum;
  __syncthreads();
  if (part != 0) return;
#pragma unroll
  for (int other = 1; other < kJoinParts; ++other) sum.join(of_part[other][lane]);
  put_row(a, row, g, channel, sum.sum);
}

}  // namespace vortex::cuda
