// A linear that streams its weights once for up to 256 rows of activations, on the matrix unit of sm_90: weights are
// the tall operand (64 channels an instruction), rows of activations the narrow one. A cluster of LINEAR_SPLIT blocks
// shares a tile of LINEAR_TILE channels, each with a part of the input channels; sums meet in shared memory in the
// order of the blocks, so the result depends on the shape alone. One warp feeds bulk copies, three sum up the squares
// of the rows; weights are on their way before the kernel waits for the work that makes its activations. The text
// around it defines LINEAR_TILE, LINEAR_ROWS, LINEAR_SPLIT, LINEAR_STAGES, LINEAR_EPILOGUE and the function
// multiply_tile.
#pragma once

#include "device/cuda/async.cuh"
#include "device/cuda/matrix.cuh"
#include "kernels/cuda/linear_arguments.h"
#include "kernels/cuda/operand.cuh"

namespace vortex::cuda {

constexpr int kTile = LINEAR_TILE, kRows = LINEAR_ROWS, kSplit = LINEAR_SPLIT, kStages = LINEAR_STAGES;
constexpr int kGroups = kTile / 64, kWorkers = kGroups * 128, kHelpers = 96, kThreads = kWorkers + 32 + kHelpers;
constexpr int kWeightBytes = kTile * 128, kOperandBytes = kRows * 128, kStageBytes = kWeightBytes + kOperandBytes;
// Sums in shared memory: [block of the cluster that finishes them, row, channel], rows padded so that no two lanes meet
// in a bank.
constexpr int kShare = kTile / kSplit, kSumStride = kShare + 4, kSumFloats = kTile / kShare * kRows * kSumStride;
__device__ inline unsigned sum_at(int row, int channel) {
  return ((channel / kShare * kRows + row) * kSumStride + channel % kShare) * 4;
}
constexpr int kPlain = 0, kSwiglu = 1, kResidual = 2, kLikeliest = 3;
constexpr int kEpilogue = LINEAR_EPILOGUE;

__device__ inline unsigned long long describe_operand(unsigned address) {
  // Rows of 128 bytes, swizzled by 128 bytes; 8 rows every 1,024 bytes.
  return static_cast<unsigned long long>((address & 0x3ffffu) >> 4) | 1ull << 16 | 64ull << 32 | 1ull << 62;
}

__device__ inline float square_factor(const StreamedLinearArguments& a, float squares) {
  return a.parts == 0 ? 1.0f : 1.0f / sqrtf(squares / a.width + a.epsilon);
}

// Eight neighbouring channels of one row, summed over the cluster.
__device__ inline void read_sums(float (&x)[8], unsigned sums, int row, int channel) {
  for (float& value : x) value = 0.0f;
#pragma unroll
  for (int rank = 0; rank < kSplit; ++rank) {
    const unsigned address = sums + sum_at(row, channel);
    const unsigned from = kSplit == 1 ? address : address_in(address, rank);
    const float4 first = read_in_cluster(from), second = read_in_cluster(from + 16);
    x[0] += first.x, x[1] += first.y, x[2] += first.z, x[3] += first.w;
    x[4] += second.x, x[5] += second.y, x[6] += second.z, x[7] += second.w;
  }
}

// What a thread adds to its first items of a block's only tile, asked for before the sums are made.
constexpr int kPieces = kShare / 8, kItems = (kRows * kPieces + kWorkers - 1) / kWorkers;
struct EarlyResidual {
  static constexpr int kKept = kEpilogue == kResidual && kItems <= 2 ? kItems : 0;
  float4 values[kKept > 0 ? kKept : 1][2];
  __device__ void load(const StreamedLinearArguments& a, int tile, int rank) {
#pragma unroll
    for (int i = 0; i < kKept; ++i) {
      const int item = threadIdx.x + i * kWorkers, row = item / kPieces;
      if (item >= kRows * kPieces || row >= a.count) continue;
      const float4* const from = reinterpret_cast<const float4*>(
          a.residual + static_cast<int64>(row) * a.tiles * kTile + tile * kTile + rank * kShare + item % kPieces * 8);
      values[i][0] = from[0], values[i][1] = from[1];
    }
  }
};

// Its share of a finished tile: channels [rank · kTile / kSplit, ...) of all rows, eight channels of a row a thread.
__device__ inline void finish_tile(const StreamedLinearArguments& a, unsigned sums, const float* factors, int tile,
                                   int rank, const EarlyResidual& early) {
#pragma unroll
  for (int i = 0; i < kItems; ++i) {
    const int item = threadIdx.x + i * kWorkers;
    if (item >= kRows * kPieces) break;
    const int row = item / kPieces, channel = rank * kShare + item % kPieces * 8;
    const int64 at = static_cast<int64>(tile) * kTile + channel;
    float x[8];
    read_sums(x, sums, row, channel);
    const float factor = factors[row];
    for (float& value : x) value *= factor;
    const bool real = row < a.count;
    if constexpr (kEpilogue == kPlain) {
      if (!real) continue;
      float4* to = reinterpret_cast<float4*>(a.out + static_cast<int64>(row) * a.tiles * kTile + at);
      to[0] = make_float4(x[0], x[1], x[2], x[3]);
      to[1] = make_float4(x[4], x[5], x[6], x[7]);
    } else if constexpr (kEpilogue == kResidual) {
      float squares = 0.0f;
      uint4 packed = make_uint4(0, 0, 0, 0);
      if (real) {
        float4* to = reinterpret_cast<float4*>(a.residual + static_cast<int64>(row) * a.tiles * kTile + at);
        const bool kept = i < EarlyResidual::kKept;
        const float4 first = kept ? early.values[kept ? i : 0][0] : to[0];
        const float4 second = kept ? early.values[kept ? i : 0][1] : to[1];
        x[0] += first.x, x[1] += first.y, x[2] += first.z, x[3] += first.w;
        x[4] += second.x, x[5] += second.y, x[6] += second.z, x[7] += second.w;
        to[0] = make_float4(x[0], x[1], x[2], x[3]);
        to[1] = make_float4(x[4], x[5], x[6], x[7]);
        for (const float value : x) squares += value * value;
        const float* norm = a.norm + at;
        packed.x = pack_bfloat16(x[0] * norm[0], x[1] * norm[1]);
        packed.y = pack_bfloat16(x[2] * norm[2], x[3] * norm[3]);
        packed.z = pack_bfloat16(x[4] * norm[4], x[5] * norm[5]);
        packed.w = pack_bfloat16(x[6] * norm[6], x[7] * norm[7]);
      }
      *reinterpret_cast<uint4*>(a.operand + operand_at(row, static_cast<int>(at), kRows)) = packed;
      static_assert(kEpilogue != kResidual || (kPieces & (kPieces - 1)) == 0, "pieces of a row are lanes side by side");
#pragma unroll
      for (int step = 1; step < kPieces; step *= 2) squares += __shfl_xor_sync(__activemask(), squares, step);
      if (item % kPieces == 0) a.squares_out[(tile * kSplit + rank) * kRows + row] = squares;
    }
  }
  if constexpr (kEpilogue == kSwiglu) {
    // Of 16 channels side by side the first 8 are gates, the others what they let through.
    for (int item = threadIdx.x; item < kRows * kPieces / 2; item += kWorkers) {
      const int row = item / (kPieces / 2), channel = rank * kShare + item % (kPieces / 2) * 16;
      const int at = (tile * kTile + channel) / 2;
      float gate[8], up[8];
      read_sums(gate, sums, row, channel);
      read_sums(up, sums, row, channel + 8);
      const float factor = factors[row];
      for (int i = 0; i < 8; ++i) {
        const float g = gate[i] * factor;
        gate[i] = row < a.count ? g / (1.0f + __expf(-g)) * up[i] * factor : 0.0f;
      }
      uint4 packed;
      packed.x = pack_bfloat16(gate[0], gate[1]);
      packed.y = pack_bfloat16(gate[2], gate[3]);
      packed.z = pack_bfloat16(gate[4], gate[5]);
      packed.w = pack_bfloat16(gate[6], gate[7]);
      *reinterpret_cast<uint4*>(a.operand + operand_at(row, at, kRows)) = packed;
    }
  }
}

__device__ inline void workers_sync() { asm volatile("bar.sync 1, %0;" ::"n"(kWorkers) : "memory"); }

// grid: tiles · LINEAR_SPLIT, with one block a cluster also fewer; block: kThreads; shared: kStages · kStageBytes +
// 1,024
extern "C" __global__ void __cluster_dims__(kSplit, 1, 1) __launch_bounds__(kThreads, 1)
    linear(const __grid_constant__ StreamedLinearArguments a) {
  extern __shared__ unsigned char dynamic[];
  __shared__ unsigned long long full_words[kStages], empty_words[kStages];
  __shared__ float factors[kRows];
  __shared__ float best_value[kEpilogue == kLikeliest ? kGroups * 4 : 1][kEpilogue == kLikeliest ? kRows : 1];
  __shared__ int best_index[kEpilogue == kLikeliest ? kGroups * 4 : 1][kEpilogue == kLikeliest ? kRows : 1];
  const unsigned stages = (shared_address(dynamic) + 1023u) & ~1023u;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int rank = blockIdx.x % kSplit, first_tile = blockIdx.x / kSplit, tile_step = gridDim.x / kSplit;
  const int begin = a.chunks * rank / kSplit, end = a.chunks * (rank + 1) / kSplit;
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      Barrier(&full_words[i]).open(1);
      Barrier(&empty_words[i]).open(kGroups);
    }
    publish_barriers();
  }
  __syncthreads();
  let_next_start();

  if (warp == kWorkers / 32) {
    if (lane == 0) {
      const unsigned long long policy = read_once_policy();
      const int per_tile = end - begin;
      const int tiles = first_tile < a.tiles ? (a.tiles - first_tile + tile_step - 1) / tile_step : 0;
      const int total = tiles * per_tile, ahead = total < kStages ? total : kStages;
      const auto fetch_weight = [&](int i) {
        const Barrier full(&full_words[i % kStages]);
        full.arrive_and_expect(kStageBytes);
        const int tile = first_tile + i / per_tile * tile_step, chunk = begin + i % per_tile;
        copy_bulk(stages + i % kStages * kStageBytes,
                  a.weight + (static_cast<int64>(tile) * a.chunks + chunk) * kTile * 64, kWeightBytes, full, policy);
      };
      const auto fetch_operand = [&](int i) {
        copy_bulk(stages + i % kStages * kStageBytes + kWeightBytes,
                  a.x + static_cast<int64>(begin + i % per_tile) * kRows * 64, kOperandBytes,
                  Barrier(&full_words[i % kStages]));
      };
      for (int i = 0; i < ahead; ++i) fetch_weight(i);
      wait_for_earlier();
      for (int i = 0; i < ahead; ++i) fetch_operand(i);
      for (int i = ahead; i < total; ++i) {
        Barrier(&empty_words[i % kStages]).wait((i / kStages - 1) & 1);
        fetch_weight(i);
        fetch_operand(i);
      }
    }
    __syncwarp();
    if constexpr (kSplit > 1) {  // with the workers: sums are there, sums are read
      cluster_arrive();
      cluster_wait();
      cluster_arrive();
      cluster_wait();
    }
    return;
  }

  if (warp > kWorkers / 32) {  // what the sums of each row are multiplied by, while the workers multiply
    constexpr int kColumns = kRows / 4, kLanes = kHelpers / kColumns > 0 ? kHelpers / kColumns : 1;
    __shared__ float4 of_lane[kLanes][kColumns];
    const int helper = threadIdx.x - kWorkers - 32;
    wait_for_earlier();
    if (helper < kLanes * kColumns) {
      const float4* const from = reinterpret_cast<const float4*>(a.squares) + helper % kColumns;
      float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 8
      for (int part = helper / kColumns; part < a.parts; part += kLanes) {
        const float4 x = __ldcg(from + part * kColumns);
        sum.x += x.x, sum.y += x.y, sum.z += x.z, sum.w += x.w;
      }
      of_lane[helper / kColumns][helper % kColumns] = sum;
    }
    asm volatile("bar.sync 2, %0;" ::"n"(kHelpers) : "memory");
    for (int row = helper; row < kRows; row += kHelpers) {
      float squares = 0.0f;
      for (int i = 0; i < kLanes; ++i) squares += reinterpret_cast<const float*>(of_lane[i])[row];
      factors[row] = square_factor(a, squares);
    }
    asm volatile("bar.arrive 3, %0;" ::"n"(kHelpers + kWorkers) : "memory");
    if constexpr (kSplit > 1) {
      cluster_arrive();
      cluster_wait();
      cluster_arrive();
      cluster_wait();
    }
    return;
  }

  wait_for_earlier();
  const int group = warp / 4, line = lane / 4, quarter = lane % 4;
  if constexpr (kEpilogue == kLikeliest) {
    if (line == 0) {
      for (int j = 0; j < kRows / 8; ++j) {
        for (int i = 0; i < 2; ++i) {
          best_value[warp][j * 8 + quarter * 2 + i] = -infinity();
          best_index[warp][j * 8 + quarter * 2 + i] = a.channels;
        }
      }
    }
  }
  int step = 0;
  bool have_factors = false;
  EarlyResidual early;
  early.load(a, first_tile, rank);
  for (int tile = first_tile; tile < a.tiles; tile += tile_step) {
    float sums[kRows / 2];
#pragma unroll
    for (float& x : sums) x = 0.0f;
    for (int chunk = begin; chunk < end; ++chunk, ++step) {
      const int stage = step % kStages;
      Barrier(&full_words[stage]).wait((step / kStages) & 1);
      const unsigned weight = stages + stage * kStageBytes + group * 64 * 128;
      const unsigned operand = stages + stage * kStageBytes + kWeightBytes;
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
      for (int k = 0; k < 4; ++k)
        multiply_tile(sums, describe_operand(weight + k * 32), describe_operand(operand + k * 32));
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      // The products of the chunk before are done: its stage is free.
      asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
      if (chunk > begin && threadIdx.x % 128 == 0) Barrier(&empty_words[(step - 1) % kStages]).arrive();
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    if (threadIdx.x % 128 == 0) Barrier(&empty_words[(step - 1) % kStages]).arrive();
    if (!have_factors) asm volatile("bar.sync 3, %0;" ::"n"(kHelpers + kWorkers) : "memory");
    have_factors = true;
    if constexpr (kEpilogue == kLikeliest) {
      // Channels tile · kTile + group · 64 + warp % 4 · 16 + line (and + 8) of rows j · 8 + 2 · quarter and the next.
      const int channel = tile * kTile + warp * 16 + line;
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int row = j * 8 + quarter * 2 + i;
          const float first = sums[j * 4 + i] * factors[row], second = sums[j * 4 + i + 2] * factors[row];
          if (a.out != nullptr && row < a.count) {
            float* const out = a.out + static_cast<int64>(row) * a.channels;
            if (channel < a.channels) out[channel] = first;
            if (channel + 8 < a.channels) out[channel + 8] = second;
          }
          float value = channel < a.channels ? first : -infinity();
          int index = channel;
          if (channel + 8 < a.channels && second > value) value = second, index = channel + 8;
          for (int distance = 4; distance < 32; distance *= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, value, distance);
            const int other_index = __shfl_xor_sync(0xffffffffu, index, distance);
            if (other > value || (other == value && other_index < index)) value = other, index = other_index;
          }
          if (line == 0 && value > best_value[warp][row]) best_value[warp][row] = value, best_index[warp][row] = index;
        }
      }
    } else {
      // All copies have landed and are used up: their place takes the sums, [row, channel].
      static_assert(kEpilogue == kLikeliest || kSumFloats * 4 <= kStages * kStageBytes, "sums fit the stages");
      workers_sync();
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int row = j * 8 + quarter * 2 + i % 2, channel = warp * 16 + line + i / 2 * 8;
          asm volatile("st.shared.f32 [%0], %1;" ::"r"(stages + sum_at(row, channel)), "f"(sums[j * 4 + i]) : "memory");
        }
      }
      if constexpr (kSplit > 1) {
        cluster_arrive();
        cluster_wait();
      } else {
        workers_sync();
      }
      finish_tile(a, stages, factors, tile, rank, early);
      if constexpr (kSplit > 1) {  // nobody leaves while its sums are read
        cluster_arrive();
        cluster_wait();
      }
    }
  }
  if constexpr (kEpilogue == kLikeliest) {
    workers_sync();
    for (int row = threadIdx.x; row < kRows; row += kWorkers) {
      float value = best_value[0][row];
      int index = best_index[0][row];
      for (int w = 1; w < kGroups * 4; ++w) {
        const float other = best_value[w][row];
        if (other > value || (other == value && best_index[w][row] < index)) value = other, index = best_index[w][row];
      }
      a.best[blockIdx.x * kRows + row] = value;
      a.best_channel[blockIdx.x * kRows + row] = index;
    }
  }
}

}  // namespace vortex::cuda
