// A linear that streams its weights for up to 256 rows of activations, on the matrix unit of sm_90: weights are the
// tall operand (64 channels an instruction), rows of activations the narrow one. A block makes LINEAR_TILE channels of
// LINEAR_PART rows; LINEAR_SPLIT blocks, a cluster, have a part of the input channels each, and each finishes a part of
// the rows. Sums are finished in the registers that made them, in the order of the input channels, so a row's result
// depends on the shape alone. One warp brings weights, one activations, two sum up the squares of the rows; weights are
// on their way before the kernel waits for the work that makes its activations. The text around it defines these,
// LINEAR_ROWS, LINEAR_STAGES, LINEAR_EPILOGUE and the function multiply_tile.
#pragma once

#include "device/cuda/async.cuh"
#include "device/cuda/matrix.cuh"
#include "kernels/cuda/linear_arguments.h"
#include "kernels/cuda/operand.cuh"

namespace vortex::cuda {

constexpr int kTile = LINEAR_TILE, kRows = LINEAR_ROWS, kPart = LINEAR_PART, kSplit = LINEAR_SPLIT;
constexpr int kStages = LINEAR_STAGES, kRowBlocks = (kRows + kPart - 1) / kPart;
constexpr int kGroups = kTile / 64, kWorkers = kGroups * 128, kHelpers = 64, kThreads = kWorkers + 64 + kHelpers;
constexpr int kUnitBytes = 64 * 128, kWeightBytes = kGroups * kUnitBytes;
constexpr int kStageBytes = kWeightBytes + kPart * 128;
// Rows by eights: those of a block, and those that each block of a split finishes.
constexpr int kEights = kPart / 8, kFinished = (kEights + kSplit - 1) / kSplit;
constexpr int kPlain = 0, kSwiglu = 1, kResidual = 2, kLikeliest = 3;
constexpr int kEpilogue = LINEAR_EPILOGUE;
// Few rows leave registers to what starts beside them.
constexpr int kAtOnce = kThreads <= 256 && kPart <= 16 ? 4 : 1;

__device__ inline unsigned long long describe_operand(unsigned address) {
  // Rows of 128 bytes, swizzled by 128 bytes; 8 rows every 1,024 bytes.
  return static_cast<unsigned long long>((address & 0x3ffffu) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

// Which part of the work a block has.
struct Place {
  int rank;                          // in the cluster
  int first_tile, tile_step, turns;  // tiles, one a turn
  int row, rows;                     // rows of the operand
  __device__ explicit Place(int tiles) {
    const int cluster = blockIdx.x / kSplit;
    rank = blockIdx.x % kSplit;
    row = cluster % kRowBlocks * kPart;
    rows = kRows - row < kPart ? kRows - row : kPart;
    first_tile = cluster / kRowBlocks, tile_step = gridDim.x / (kSplit * kRowBlocks);
    turns = (tiles - first_tile + tile_step - 1) / tile_step;
  }
};

// What a thread's sums stand for: 8 · kFinished rows by two channels. Sum k · 4 + i is that of row 8 · (first + k) +
// 2 · quarter + i % 2 of the block and channel line + 8 · (i / 2) of the warp's 16.
struct Sums {
  float values[kFinished * 4];
};

// Each block of a split sends the others what they finish; theirs are added in the order of the input channels.
__device__ inline void join_sums(Sums& out, const float (&sums)[kPart / 2], unsigned sent, const Place& place) {
  const auto slot = [&](int from, int k) { return sent + ((from * kFinished + k) * kWorkers + threadIdx.x) * 16; };
#pragma unroll
  for (int to = 0; to < kSplit; ++to) {
    if (to == place.rank) continue;
#pragma unroll
    for (int k = 0; k < kFinished; ++k) {
      const int from = (to * kFinished + k) * 4;
      if (to * kFinished + k >= kEights) continue;
      write_in_cluster(address_in(slot(place.rank < to ? place.rank : place.rank - 1, k), to),
                       make_float4(sums[from], sums[from + 1], sums[from + 2], sums[from + 3]));
    }
  }
  cluster_arrive();
#pragma unroll
  for (int k = 0; k < kFinished; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out.values[k * 4 + i] = 0.0f;
#pragma unroll
      for (int to = 0; to < kSplit; ++to)
        if (to == place.rank && to * kFinished + k < kEights)
          out.values[k * 4 + i] = sums[(to * kFinished + k) * 4 + i];
    }
  }
  cluster_wait();
#pragma unroll
  for (int k = 0; k < kFinished; ++k) {
    float4 theirs[kSplit];
#pragma unroll
    for (int from = 0; from + 1 < kSplit; ++from)
      asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                   : "=f"(theirs[from].x), "=f"(theirs[from].y), "=f"(theirs[from].z), "=f"(theirs[from].w)
                   : "r"(slot(from, k))
                   : "memory");
    float* const own = out.values + k * 4;
    float total[4];
#pragma unroll
    for (int from = 0; from < kSplit; ++from) {
      const float4 before = theirs[from + 1 < kSplit ? from : 0], after = theirs[from > 0 ? from - 1 : 0];
      const bool mine = from == place.rank, early = from < place.rank;
      const float x[4] = {mine    ? own[0]
                          : early ? before.x
                                  : after.x,
                          mine    ? own[1]
                          : early ? before.y
                                  : after.y,
                          mine    ? own[2]
                          : early ? before.z
                                  : after.z,
                          mine    ? own[3]
                          : early ? before.w
                                  : after.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) total[i] = from == 0 ? x[i] : total[i] + x[i];
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) own[i] = total[i];
  }
}

// Where a thread's sums lie: its block's place, its 64 channels, its warp's 16 of them.
struct Position {
  int row, first;     // of the operand; of the eights that the block finishes
  int unit, channel;  // channel: the first of the warp's 16
  int line, quarter;
  __device__ int local(int k) const { return (first + k) * 8 + quarter * 2; }  // the row of the block
};

// What is added to the sums, and the next norm.
struct Added {
  float values[kEpilogue == kResidual ? kFinished * 4 : 1], norm[2];
  __device__ void load(const StreamedLinearArguments& a, const Position& at) {
    norm[0] = a.norm[at.channel + at.line], norm[1] = a.norm[at.channel + at.line + 8];
    const int first = at.local(0), left = at.first < kEights ? a.count - at.row - first : 0;
    const float* const from = a.residual + static_cast<int64>(at.row + first) * a.channels + at.channel + at.line;
#pragma unroll
    for (int k = 0; k < kFinished; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i)
        values[k * 4 + i] = (at.first + k < kEights) && k * 8 + i % 2 < left
                                ? from[static_cast<int64>(k * 8 + i % 2) * a.channels + i / 2 * 8]
                                : 0.0f;
    }
  }
};
constexpr bool kAddedEarly = kEpilogue == kResidual && kFinished * 4 + kPart / 2 <= 96;  // registers

// Eight channels of eight rows of an operand; `pair`: as a thread's sums lie, of two rows.
__device__ inline void store_eight(unsigned short* operand, unsigned pair) {
  *reinterpret_cast<unsigned*>(operand) = transpose_lanes(pair);
}
constexpr int kEight = 8 * 64;  // elements of an operand from eight rows to the next

__device__ inline void finish(const StreamedLinearArguments& a, const Sums& sums, const Added& added,
                              const float* factors, float* squares_of_warp, const Position& at) {
  const int first = at.local(0), left = a.count - at.row - first;  // rows that are sequences from here on
  const int eights = min(kEights - at.first, (kRows - at.row) / 8 - at.first);
  const float* const factor_of = factors + first;
  // Plain numbers: where the thread's first one lies, from there a row is `channels` further.
  float* const numbers = (kEpilogue == kPlain ? a.out : a.residual) + static_cast<int64>(at.row + first) * a.channels +
                         at.channel + at.line;
  const int channel = kEpilogue == kSwiglu ? at.channel / 2 : at.channel, row = at.row + at.first * 8 + at.line;
  unsigned short* const operand = a.operand + operand_at(row, channel + at.quarter * 2, kRows);
  unsigned short* const operand_after = a.operand + operand_at(row, channel + 8 + at.quarter * 2, kRows);
#pragma unroll
  for (int k = 0; k < kFinished; ++k) {
    if (k >= eights) break;
    const float2 factor = *reinterpret_cast<const float2*>(factor_of + k * 8);
    const float x[4] = {sums.values[k * 4] * factor.x, sums.values[k * 4 + 1] * factor.y,
                        sums.values[k * 4 + 2] * factor.x, sums.values[k * 4 + 3] * factor.y};
    float* const here = numbers + static_cast<int64>(k * 8) * a.channels;
    if constexpr (kEpilogue == kPlain) {
      if (k * 8 < left) here[0] = x[0], here[8] = x[2];
      if (k * 8 + 1 < left) here[a.channels] = x[1], here[a.channels + 8] = x[3];
    } else if constexpr (kEpilogue == kSwiglu) {
      // Of 16 channels side by side the first 8 are gates, the others what they let through.
      float passed[2];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        passed[i] = k * 8 + i < left ? __fdividef(x[i], 1.0f + __expf(-x[i])) * x[i + 2] : 0.0f;
      store_eight(operand + k * kEight, pack_bfloat16(passed[0], passed[1]));
    } else if constexpr (kEpilogue == kResidual) {
      float y[4], squares[2];
#pragma unroll
      for (int i = 0; i < 4; ++i) y[i] = k * 8 + i % 2 < left ? x[i] + added.values[k * 4 + i] : 0.0f;
      if (k * 8 < left) here[0] = y[0], here[8] = y[2];
      if (k * 8 + 1 < left) here[a.channels] = y[1], here[a.channels + 8] = y[3];
      store_eight(operand + k * kEight, pack_bfloat16(y[0] * added.norm[0], y[1] * added.norm[0]));
      store_eight(operand_after + k * kEight, pack_bfloat16(y[2] * added.norm[1], y[3] * added.norm[1]));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        squares[i] = y[i] * y[i] + y[i + 2] * y[i + 2];
#pragma unroll
        for (int distance = 4; distance < 32; distance *= 2)
          squares[i] += __shfl_xor_sync(0xffffffffu, squares[i], distance);
      }
      if (at.line == 0)
        *reinterpret_cast<float2*>(squares_of_warp + first + k * 8) = make_float2(squares[0], squares[1]);
    }
  }
}

// The likeliest of the channels seen so far, a row each.
struct Best {
  float value;
  int channel;
  __device__ void take(float other, int other_channel) {
    if (other > value || (other == value && other_channel < channel)) value = other, channel = other_channel;
  }
};

// One step of a warp's search: lanes that differ in `distance` share `n` rows between them, or both keep them when n is
// odd. Gives what a lane keeps: rows [.., n / 2) of those that it had, the second half where its bit is set.
template <int n>
__device__ inline void narrow(Best (&best)[n], int distance) {
  const bool second = (threadIdx.x & distance) != 0;
  constexpr int kKept = n % 2 == 0 ? n / 2 : n;
#pragma unroll
  for (int i = 0; i < kKept; ++i) {
    Best& low = best[i];
    Best& high = best[n % 2 == 0 ? i + n / 2 : i];
    const Best kept = second ? high : low, sent = second ? low : high;
    const float value = __shfl_xor_sync(0xffffffffu, sent.value, distance);
    const int channel = __shfl_xor_sync(0xffffffffu, sent.channel, distance);
    best[i] = kept;
    best[i].take(value, channel);
  }
}

// The likeliest of the warp's 16 channels of each row, into best_value and best_index of the block's rows.
__device__ inline void keep_likeliest(const StreamedLinearArguments& a, const float (&sums)[kPart / 2],
                                      const float* factors, float* best_value, int* best_index, const Position& at) {
  constexpr int kEach = kPart / 4, kSecond = kEach % 2 == 0 ? kEach / 2 : kEach;
  constexpr int kThird = kSecond % 2 == 0 ? kSecond / 2 : kSecond, kLast = kThird % 2 == 0 ? kThird / 2 : kThird;
  const int channel = at.channel + at.line;
  const bool whole = at.channel + 16 <= a.channels;
  Best best[kEach];
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const int local = i / 2 * 8 + at.quarter * 2 + i % 2;
    const float factor = factors[local];
    float first = sums[i / 2 * 4 + i % 2] * factor, second = sums[i / 2 * 4 + i % 2 + 2] * factor;
    if (a.out != nullptr && at.row + local < a.count) {
      float* const out = a.out + static_cast<int64>(at.row + local) * a.channels;
      if (channel < a.channels) out[channel] = first;
      if (channel + 8 < a.channels) out[channel + 8] = second;
    }
    if (!whole) {
      if (channel >= a.channels) first = -infinity();
      if (channel + 8 >= a.channels) second = -infinity();
    }
    best[i] = second > first ? Best{second, channel + 8} : Best{first, channel};
  }
  narrow<kEach>(best, 16);
  Best(&fewer)[kSecond] = reinterpret_cast<Best(&)[kSecond]>(best);
  narrow<kSecond>(fewer, 8);
  Best(&few)[kThird] = reinterpret_cast<Best(&)[kThird]>(best);
  narrow<kThird>(few, 4);
  int start = 0;
  if (kEach % 2 == 0 && (threadIdx.x & 16) != 0) start += kSecond;
  if (kSecond % 2 == 0 && (threadIdx.x & 8) != 0) start += kThird;
  if (kThird % 2 == 0 && (threadIdx.x & 4) != 0) start += kLast;
#pragma unroll
  for (int i = 0; i < kLast; ++i) {
    const int local = (start + i) / 2 * 8 + at.quarter * 2 + (start + i) % 2;
    if (best[i].value > best_value[local]) best_value[local] = best[i].value, best_index[local] = best[i].channel;
  }
}

// 1/√(mean square + epsilon) of each row of the block, by the helpers.
__device__ inline void make_factors(const StreamedLinearArguments& a, float* factors, const Place& place) {
  constexpr int kColumns = kPart / 4, kLanes = kHelpers / kColumns > 0 ? kHelpers / kColumns : 1;
  __shared__ float4 of_lane[kLanes][kColumns];
  const int helper = threadIdx.x - kWorkers - 64, column = helper % kColumns;
  if (helper < kLanes * kColumns && column * 4 < place.rows) {
    const float4* const from = reinterpret_cast<const float4*>(a.squares + place.row) + column;
    float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 16
    for (int part = helper / kColumns; part < a.parts; part += kLanes) {
      const float4 x = __ldcg(from + part * (kRows / 4));
      sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
    }
    of_lane[helper / kColumns][column] = sum;
  }
  asm volatile("bar.sync 2, %0;" ::"n"(kHelpers) : "memory");
  for (int row = helper; row < place.rows; row += kHelpers) {
    float squares = 0.0f;
    for (int i = 0; i < kLanes; ++i) squares += reinterpret_cast<const float*>(of_lane[i])[row];
    factors[row] = a.parts == 0 ? 1.0f : 1.0f / sqrtf(squares / a.width + a.epsilon);
  }
}

template <int i>
__device__ inline void group_sync(int group) {
  if (group == i) {
    asm volatile("bar.sync %0, 128;" ::"n"(4 + i) : "memory");
  } else if constexpr (i + 1 < kGroups) {
    group_sync<i + 1>(group);
  }
}

// With the workers: the sums of a split are sent.
__device__ inline void meet_workers() {
  if constexpr (kSplit > 1) {
    cluster_arrive();
    cluster_wait();
  }
}

// Brings weights, stage by stage, and says what each stage waits for: one thread, whose every instruction counts.
__device__ inline void bring_weights(const StreamedLinearArguments& a, const Place& place, unsigned stages, int begin,
                                     int end, unsigned full, unsigned empty) {
  constexpr int kBlock = 64 * 64;  // elements of a block of weights
  const unsigned long long policy = read_once_policy();
  const int units = (a.channels + 63) / 64, expected = kWeightBytes + place.rows * 128;
  int stage = 0, fresh = kStages;  // stages that nothing was in before
  unsigned phase = 0;
  for (int turn = 0; turn < place.turns; ++turn) {
    const unsigned short* weights[kGroups];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const int unit = (place.first_tile + turn * place.tile_step) * kGroups + group;  // beyond the last: not kept
      weights[group] = a.weight + (static_cast<int64>(unit < units ? unit : units - 1) * a.chunks + begin) * kBlock;
    }
    for (int chunk = begin; chunk < end; ++chunk) {
      if (fresh > 0) {
        --fresh;
      } else {
        Barrier::at(empty + stage * 8).wait(phase);
        if (stage == kStages - 1) phase ^= 1;
      }
      const Barrier landed = Barrier::at(full + stage * 8);
      landed.arrive_and_expect(expected);
      const unsigned to = stages + stage * kStageBytes;
#pragma unroll
      for (int group = 0; group < kGroups; ++group) {
        if constexpr (kRowBlocks > 1) {  // other blocks read them too
          copy_bulk(to + group * kUnitBytes, weights[group], kUnitBytes, landed);
        } else {
          copy_bulk(to + group * kUnitBytes, weights[group], kUnitBytes, landed, policy);
        }
        weights[group] += kBlock;
      }
      if (++stage == kStages) stage = 0;
    }
  }
  if constexpr (kSplit > 1) cluster_wait_apart();
}

// Brings the rows of activations, likewise.
__device__ inline void bring_rows(const StreamedLinearArguments& a, const Place& place, unsigned stages, int begin,
                                  int end, unsigned full, unsigned empty) {
  const int bytes = place.rows * 128;
  int stage = 0, fresh = kStages;
  unsigned phase = 0;
  if constexpr (kSplit > 1) cluster_wait_apart();
  wait_for_earlier();
  for (int turn = 0; turn < place.turns; ++turn) {
    const unsigned short* rows = a.x + (static_cast<int64>(begin) * kRows + place.row) * 64;
    for (int chunk = begin; chunk < end; ++chunk) {
      if (fresh > 0) {
        --fresh;
      } else {
        Barrier::at(empty + stage * 8).wait(phase);
        if (stage == kStages - 1) phase ^= 1;
      }
      const unsigned to = stages + stage * kStageBytes + kWeightBytes;
      copy_bulk(to, rows, bytes, Barrier::at(full + stage * 8));
      rows += kRows * 64;
      if (++stage == kStages) stage = 0;
    }
  }
}

// grid: LINEAR_SPLIT blocks for each tile and part of the rows; without a split also for fewer tiles. block: kThreads.
// shared: kStages · kStageBytes, then what the blocks of a split send: (kSplit − 1) · kFinished · kWorkers · 16; 1,024
extern "C" __global__ void __cluster_dims__(kSplit, 1, 1) __launch_bounds__(kThreads, kAtOnce)
    linear(const __grid_constant__ StreamedLinearArguments a) {
  extern __shared__ unsigned char dynamic[];
  __shared__ unsigned long long full_words[kStages], empty_words[kStages];
  __shared__ __align__(16) float factors[kPart];
  __shared__ __align__(
      8) float warp_squares[kEpilogue == kResidual ? kGroups * 4 : 1][kEpilogue == kResidual ? kPart : 1];
  __shared__ float best_value[kEpilogue == kLikeliest ? kGroups * 4 : 1][kEpilogue == kLikeliest ? kPart : 1];
  __shared__ int best_index[kEpilogue == kLikeliest ? kGroups * 4 : 1][kEpilogue == kLikeliest ? kPart : 1];
  const unsigned stages = (shared_address(dynamic) + 1023u) & ~1023u, sent = stages + kStages * kStageBytes;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const Place place(a.tiles);
  const int begin = a.chunks * place.rank / kSplit, end = a.chunks * (place.rank + 1) / kSplit;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      Barrier(&full_words[i]).open(1);
      Barrier(&empty_words[i]).open(kGroups);
    }
    publish_barriers();
  }
  __syncthreads();
  if constexpr (kSplit > 1) cluster_arrive();
  let_next_start();

  if (warp == kWorkers / 32 || warp == kWorkers / 32 + 1) {
    const unsigned full = shared_address(full_words), empty = shared_address(empty_words);
    if (lane == 0 && warp == kWorkers / 32) {
      bring_weights(a, place, stages, begin, end, full, empty);
    } else if (lane == 0) {
      bring_rows(a, place, stages, begin, end, full, empty);
    } else if constexpr (kSplit > 1) {
      cluster_wait_apart();
    }
    __syncwarp();
    meet_workers();
    return;
  }
  if constexpr (kSplit > 1) cluster_wait();  // all blocks are here
  if (warp > kWorkers / 32 + 1) {
    wait_for_earlier();
    make_factors(a, factors, place);
    asm volatile("bar.arrive 3, %0;" ::"n"(kHelpers + kWorkers) : "memory");
    meet_workers();
    return;
  }

  wait_for_earlier();
  const int group = warp / 4, units = (a.channels + 63) / 64;
  Position at{};
  at.row = place.row, at.first = place.rank * kFinished, at.line = lane / 4, at.quarter = lane % 4;
  at.unit = place.first_tile * kGroups + group, at.channel = at.unit * 64 + warp % 4 * 16;
  if constexpr (kEpilogue == kLikeliest) {
    for (int row = lane; row < kPart; row += 32)
      best_value[warp][row] = -infinity(), best_index[warp][row] = a.channels;
    __syncwarp();
  }
  Added added;
  if constexpr (kAddedEarly)
    if (at.unit < units) added.load(a, at);
  const unsigned freed = threadIdx.x % 128 == 0 ? address_in(shared_address(empty_words), place.rank) : 0;
  const auto free_stage = [&](int stage) {
    if (freed != 0) Barrier::at(freed + stage * 8).arrive_in_cluster();
  };
  int stage = 0, before = kStages - 1;  // the one of the chunk at hand and that of the one before it
  unsigned phase = 0;
  for (int turn = 0; turn < place.turns; ++turn) {
    float sums[kPart / 2];
#pragma unroll
    for (float& x : sums) x = 0.0f;
    for (int chunk = begin; chunk < end; ++chunk) {
      Barrier(&full_words[stage]).wait(phase);
      const unsigned weight = stages + stage * kStageBytes + group * kUnitBytes;
      const unsigned operand = stages + stage * kStageBytes + kWeightBytes;
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
      for (int k = 0; k < 4; ++k)
        multiply_tile(sums, describe_operand(weight + k * 32), describe_operand(operand + k * 32));
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      // The products of the chunk before are done: its stage is free.
      asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
      if (chunk > begin) free_stage(before);
      before = stage;
      if (++stage == kStages) stage = 0, phase ^= 1;
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    free_stage(before);
    if (turn == 0) asm volatile("bar.sync 3, %0;" ::"n"(kHelpers + kWorkers) : "memory");
    at.unit = (place.first_tile + turn * place.tile_step) * kGroups + group, at.channel = at.unit * 64 + warp % 4 * 16;
    if constexpr (kEpilogue == kLikeliest) {
      if (at.unit < units) keep_likeliest(a, sums, factors, best_value[warp], best_index[warp], at);
    } else {
      Sums joined;
      if constexpr (kSplit > 1) {
        join_sums(joined, sums, sent, place);
      } else {
#pragma unroll
        for (int i = 0; i < kPart / 2; ++i) joined.values[i] = sums[i];
      }
      if (at.unit < units) {
        if constexpr (kEpilogue == kResidual && !kAddedEarly) added.load(a, at);
        finish(a, joined, added, factors, warp_squares[kEpilogue == kResidual ? warp : 0], at);
        if constexpr (kEpilogue == kResidual) {
          group_sync<0>(group);
          for (int i = threadIdx.x % 128; i < kFinished * 8; i += 128) {
            const int local = at.first * 8 + i;
            if (local >= place.rows) break;
            a.squares_out[at.unit * kRows + place.row + local] =
                warp_squares[group * 4][local] + warp_squares[group * 4 + 1][local] +
                warp_squares[group * 4 + 2][local] + warp_squares[group * 4 + 3][local];
          }
        }
      }
    }
  }
  if constexpr (kEpilogue == kLikeliest) {
    asm volatile("bar.sync 1, %0;" ::"n"(kWorkers) : "memory");
    for (int row = threadIdx.x; row < place.rows; row += kWorkers) {
      Best best{best_value[0][row], best_index[0][row]};
      for (int w = 1; w < kGroups * 4; ++w) best.take(best_value[w][row], best_index[w][row]);
      a.best[place.first_tile * kRows + place.row + row] = best.value;
      a.best_channel[place.first_tile * kRows + place.row + row] = best.channel;
    }
  }
}

}  // namespace vortex::cuda
