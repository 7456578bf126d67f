// What stands around the weight-streaming linears.
#pragma once

#include "device/cuda/async.cuh"
#include "kernels/cuda/linear_arguments.h"
#include "kernels/cuda/operand.cuh"

namespace vortex::cuda {

// grid: rows_out; block: any
extern "C" __global__ void pack(PackArguments a) {
  const int row = blockIdx.x, from = a.row_of == nullptr ? row : a.row_of[row];
  for (int i = threadIdx.x; i < a.columns; i += blockDim.x) {
    const float value = from < 0 ? 0.0f : a.from[static_cast<int64>(from) * a.columns + i];
    a.to[weight_at(row, i, a.columns, a.tile)] = to_bfloat16(value).bits;
  }
}

// grid: any; block: any
extern "C" __global__ void random_values(RandomArguments a) {
  const int64 step = static_cast<int64>(gridDim.x) * blockDim.x;
  for (int64 i = static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x; i < a.count; i += step) {
    unsigned x = static_cast<unsigned>(i) * 0x9e3779b9u + static_cast<unsigned>(i >> 32) * 0x85ebca6bu + a.seed;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    x ^= x >> 16;
    a.to[i] = to_bfloat16((static_cast<float>(x >> 8) * 0x1p-23f - 1.0f) * a.size).bits;
  }
}

// grid: count; block: whole warps
extern "C" __global__ void embed_packed(PackedEmbedArguments a) {
  __shared__ float scratch[32];
  const Block block(scratch);
  const int row = blockIdx.x;
  let_next_start();
  wait_for_earlier();
  const int token = a.tokens[row];
  float squares = 0.0f;
  for (int i = block.thread; i < a.width; i += block.size) {
    const float value = to_float(BFloat16{a.table[weight_at(token, i, a.width, a.tile)]});
    a.residual[static_cast<int64>(row) * a.width + i] = value;
    a.operand[operand_at(row, i, a.rows)] = to_bfloat16(value * a.norm[i]).bits;
    squares += value * value;
  }
  squares = block.sum(squares);
  if (block.thread == 0) a.squares[row] = squares;
}

// grid: count; block: 128
extern "C" __global__ void take_likeliest(TakeLikeliestArguments a) {
  __shared__ float values[4];
  __shared__ int indices[4];
  const int row = blockIdx.x;
  let_next_start();
  wait_for_earlier();
  float value = -infinity();
  int index = 0x7fffffff;
  const auto join = [&](float other, int other_index) {
    if (other > value || (other == value && other_index < index)) value = other, index = other_index;
  };
  for (int i = threadIdx.x; i < a.blocks; i += blockDim.x)
    join(a.best[i * a.rows + row], a.best_channel[i * a.rows + row]);
  for (int step = 16; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, value, step);
    const int other_index = __shfl_xor_sync(0xffffffffu, index, step);
    join(other, other_index);
  }
  if (threadIdx.x % 32 == 0) values[threadIdx.x / 32] = value, indices[threadIdx.x / 32] = index;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < 4; ++w) join(values[w], indices[w]);
  const int held = a.tokens[row];
  if (held >= a.capacity) return;
  a.next[row] = index;
  a.tokens[row] = held + 1;
  a.steps[row] += 1;
}

}  // namespace vortex::cuda
