// The plain kernels of a decode step around attention: one token of each sequence. Correct first; no tiles, no tensor
// cores.
#pragma once

#include "device/cuda/device.cuh"
#include "kernels/cuda/step_arguments.h"

namespace vortex::cuda {

// grid: count; block: any
extern "C" __global__ void embed(EmbedArguments a) {
  const float* row = a.table + static_cast<int64>(a.tokens[blockIdx.x]) * a.width;
  for (int i = threadIdx.x; i < a.width; i += blockDim.x) a.out[static_cast<int64>(blockIdx.x) * a.width + i] = row[i];
}

// grid: count; block: whole warps
extern "C" __global__ void rms_norm(NormArguments a) {
  __shared__ float scratch[32];
  const Block block(scratch);
  const float* x = a.x + static_cast<int64>(blockIdx.x) * a.width;
  float squares = 0.0f;
  for (int i = block.thread; i < a.width; i += block.size) squares += x[i] * x[i];
  const float factor = 1.0f / sqrtf(block.sum(squares) / static_cast<float>(a.width) + a.epsilon);
  for (int i = block.thread; i < a.width; i += block.size) {
    a.out[static_cast<int64>(blockIdx.x) * a.width + i] = x[i] * factor * a.weight[i];
  }
}

// grid: rows / warps of a block, count; block: whole warps. A warp an output.
extern "C" __global__ void linear(LinearArguments a) {
  const Warp warp;
  const int row = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= a.rows) return;
  const float* weight = a.weight + static_cast<int64>(row) * a.columns;
  const float* x = a.x + static_cast<int64>(blockIdx.y) * a.columns;
  float sum = 0.0f;
  for (int i = warp.thread; i < a.columns; i += 32) sum += weight[i] * x[i];
  sum = warp.sum(sum);
  float* out = a.out + static_cast<int64>(blockIdx.y) * a.rows + row;
  if (warp.thread == 0) *out = a.add ? *out + sum : sum;
}

// grid: heads, count; block: any
extern "C" __global__ void rope(RopeArguments a) {
  float* x = a.x + static_cast<int64>(blockIdx.y) * a.stride + blockIdx.x * a.head_dim;
  const float position = static_cast<float>(a.tokens[blockIdx.y] - 1);
  const int half = a.head_dim / 2;
  for (int i = threadIdx.x; i < half; i += blockDim.x) {
    float sine, cosine;
    sincosf(position * a.inverse_frequency[i], &sine, &cosine);
    const float first = x[i], second = x[i + half];
    x[i] = first * cosine - second * sine;
    x[i + half] = second * cosine + first * sine;
  }
}

// grid: count; block: any
extern "C" __global__ void swiglu(SwigluArguments a) {
  const float* gate = a.gate_up + static_cast<int64>(blockIdx.x) * 2 * a.width;
  for (int i = threadIdx.x; i < a.width; i += blockDim.x) {
    a.out[static_cast<int64>(blockIdx.x) * a.width + i] = gate[i] / (1.0f + expf(-gate[i])) * gate[a.width + i];
  }
}

// grid: count; block: 256
extern "C" __global__ void sample(SampleArguments a) {
  __shared__ float best_value[256];
  __shared__ int best_index[256];
  const int sequence = blockIdx.x, thread = threadIdx.x;
  const float* logits = a.logits + static_cast<int64>(sequence) * a.vocabulary;
  float value = -infinity();
  int index = a.vocabulary;
  for (int i = thread; i < a.vocabulary; i += 256) {
    if (logits[i] > value || index == a.vocabulary) value = logits[i], index = i;
  }
  best_value[thread] = value;
  best_index[thread] = index;
  __syncthreads();
  for (int step = 128; step > 0; step /= 2) {
    if (thread < step) {
      const float other = best_value[thread + step];
      const int other_index = best_index[thread + step];
      if (other > best_value[thread] || (other == best_value[thread] && other_index < best_index[thread])) {
        best_value[thread] = other;
        best_index[thread] = other_index;
      }
    }
    __syncthreads();
  }
  if (thread != 0) return;
  const int held = a.tokens[sequence];
  if (held >= a.capacity) return;
  const bool in_prompt = a.prompt != nullptr && held < a.prompt_lengths[sequence];
  a.next[sequence] = in_prompt ? a.prompt[static_cast<int64>(sequence) * a.prompt_stride + held] : best_index[0];
  a.tokens[sequence] = held + 1;
  if (a.prompt == nullptr || held > a.prompt_lengths[sequence]) a.steps[sequence] += 1;
}

}  // namespace vortex::cuda
