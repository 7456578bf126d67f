// The decode chain apart from what a flow prints: append, plan, select, attend. Grids are fixed by capacities; how much
// of them works is read on the device, so a captured launch stays right as sequences grow.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "attention/cuda/plan.cuh"
#include "attention/cuda/select.cuh"
#include "device/cuda/device.cuh"

namespace vortex::cuda {

__device__ inline const BFloat16* at(const Plane& plane, int page, int head, int token) {
  return static_cast<const BFloat16*>(plane.base) + page * plane.page_stride + head * plane.head_stride +
         token * plane.token_stride;
}

// Where token `token` of a sequence lies.
__device__ inline const BFloat16* token_at(const Plane& plane, const Batch& batch, const Shape& shape, int sequence,
                                           int head, int token) {
  const int page = batch.page_tables[sequence * batch.page_table_stride + token / shape.page_size];
  return at(plane, page, head, token % shape.page_size);
}

// grid: kv_heads, sequences; block: any
extern "C" __global__ void append(AppendArguments a) {
  const int head = blockIdx.x, sequence = blockIdx.y;
  const int token = a.batch.tokens[sequence] - 1;
  BFloat16* k = const_cast<BFloat16*>(token_at(a.k, a.batch, a.shape, sequence, head, token));
  BFloat16* v = const_cast<BFloat16*>(token_at(a.v, a.batch, a.shape, sequence, head, token));
  const int64 from = sequence * a.new_stride + head * a.shape.head_dim;
  for (int i = threadIdx.x; i < a.shape.head_dim; i += blockDim.x) {
    k[i] = to_bfloat16(a.k_new[from + i]);
    v[i] = to_bfloat16(a.v_new[from + i]);
  }
}

// grid: sequences / block; block: any. A thread a sequence.
extern "C" __global__ void plan(PlanArguments a) {
  const int sequence = blockIdx.x * blockDim.x + threadIdx.x;
  if (sequence >= a.sequences) return;
  a.plans[sequence] = plan_of(a, sequence, budget_of_settings(a, pages_of(a, sequence)));
}

// grid: kv_heads, sequences; block: 256, 512 or 1,024
extern "C" __global__ void __launch_bounds__(256, 2) select_pages(SelectArguments a) {
  let_next_start();
  wait_for_earlier();
  select_row_of_block(a, blockIdx.y, blockIdx.x);
}

// One split of 128 tokens of one row's list.
// grid: splits, kv_heads, sequences; block: 128; shared: (group · (head_dim + 128)) floats
extern "C" __global__ void attend_split(AttendArguments a) {
  extern __shared__ float shared[];
  __shared__ const BFloat16* values[128];
  const int split = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z, thread = threadIdx.x;
  const int row = sequence * a.shape.kv_heads + head;
  const int group = a.shape.group, dim = a.shape.head_dim;
  const int list = a.lists_of_rows ? row : sequence;
  const int count = min(128, a.tokens[list] - split * 128);
  if (count <= 0) return;
  float* q = shared;                      // [group, dim]
  float* weights = shared + group * dim;  // [group, 128]
  const float* q_from = a.q + sequence * a.q_stride + static_cast<int64>(head) * group * dim;
  for (int i = thread; i < group * dim; i += 128) q[i] = q_from[i] * a.shape.scale;
  __syncthreads();

  if (thread < count) {
    const int position = split * 128 + thread;
    const int page = a.pages[list * a.stride + position / a.shape.page_size], token = position % a.shape.page_size;
    const BFloat16* k = at(a.k, page, head, token);
    values[thread] = at(a.v, page, head, token);
    for (int g = 0; g < group; ++g) {
      float logit = 0.0f;
      for (int i = 0; i < dim; ++i) logit += q[g * dim + i] * to_float(k[i]);
      weights[g * 128 + thread] = logit;
    }
  }
  __syncthreads();

  float* partial = a.partial + (static_cast<int64>(row) * a.splits + split) * group * (dim + 2);
  const Warp warp;
  for (int g = thread / 32; g < group; g += 4) {
    float top = -infinity(), sum = 0.0f;
    for (int i = warp.thread; i < count; i += 32) top = fmaxf(top, weights[g * 128 + i]);
    top = warp.max(top);
    for (int i = warp.thread; i < count; i += 32) {
      const float weight = expf(weights[g * 128 + i] - top);
      weights[g * 128 + i] = weight;
      sum += weight;
    }
    sum = warp.sum(sum);
    if (warp.thread == 0) {
      partial[g * (dim + 2) + dim] = top;
      partial[g * (dim + 2) + dim + 1] = sum;
    }
  }
  __syncthreads();
  for (int i = thread; i < group * dim; i += 128) {
    const int g = i / dim, channel = i % dim;
    float sum = 0.0f;
    for (int t = 0; t < count; ++t) sum += weights[g * 128 + t] * to_float(values[t][channel]);
    partial[g * (dim + 2) + channel] = sum;
  }
}

// Joins the splits of a row in ascending order.
// grid: kv_heads · group, sequences; block: any
extern "C" __global__ void attend_merge(AttendArguments a) {
  const int group = a.shape.group, dim = a.shape.head_dim;
  const int head = blockIdx.x / group, g = blockIdx.x % group, sequence = blockIdx.y;
  const int row = sequence * a.shape.kv_heads + head;
  const int splits = (a.tokens[a.lists_of_rows ? row : sequence] + 127) / 128;
  const float* partial = a.partial + static_cast<int64>(row) * a.splits * group * (dim + 2) + g * (dim + 2);
  const int64 stride = static_cast<int64>(group) * (dim + 2);
  float top = -infinity(), sum = 0.0f;
  for (int s = 0; s < splits; ++s) top = fmaxf(top, partial[s * stride + dim]);
  const float* const rest = a.rest == nullptr ? nullptr : a.rest + static_cast<int64>(row) * group * (1 + dim);
  const float logit = rest == nullptr ? -infinity() : rest[g];
  const bool has_rest = !isinf(logit);
  if (has_rest) top = fmaxf(top, logit);
  for (int s = 0; s < splits; ++s) sum += partial[s * stride + dim + 1] * expf(partial[s * stride + dim] - top);
  if (has_rest) sum += expf(logit - top);
  const int first = blockIdx.x * dim, all = a.shape.kv_heads * group * dim;
  for (int i = threadIdx.x; i < dim; i += blockDim.x) {
    float value = 0.0f;
    for (int s = 0; s < splits; ++s) value += partial[s * stride + i] * expf(partial[s * stride + dim] - top);
    if (has_rest) value += rest[group + g * dim + i] * expf(logit - top);
    a.out[static_cast<int64>(sequence) * all + first + i] = value / sum;
  }
}

}  // namespace vortex::cuda
