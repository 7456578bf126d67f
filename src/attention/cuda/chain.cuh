// The decode chain apart from what a flow prints: append, plan, select, attend. Grids are fixed by capacities; how much
// of them works is read on the device, so a captured launch stays right as sequences grow.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "device/cuda/device.cuh"

namespace vortex::cuda {

__device__ inline const BFloat16* at(const Plane& plane, int page, int head, int token) {
  return reinterpret_cast<const BFloat16*>(plane.base) + page * plane.page_stride + head * plane.head_stride +
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
  SequencePlan out;
  out.tokens = a.tokens[sequence];
  out.pages = (out.tokens + a.page_size - 1) / a.page_size;
  const int recent = a.recent > 1 ? a.recent : 1;
  const int pinned = min(a.sinks + recent, out.pages);
  int64 budget = static_cast<int64>(a.budget_ratio * static_cast<double>(out.pages));
  if (a.budget > budget) budget = a.budget;
  if (budget < pinned) budget = pinned;
  if (budget > out.pages) budget = out.pages;
  const bool full = a.full != 0 || (a.dense_until != nullptr && out.tokens <= a.dense_until[sequence]);
  out.candidates = out.pages - pinned;
  out.first_candidate = out.candidates > 0 ? a.sinks : 0;
  out.chosen = full ? out.candidates : static_cast<int>(budget) - pinned;
  a.plans[sequence] = out;
}

// A float as an unsigned number of the same order; NaN below all, −0 as 0.
__device__ inline unsigned ordered(float x) {
  if (x != x) return 0u;
  const unsigned bits = __float_as_uint(x + 0.0f);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// The exact `chosen` best candidates of a row, ties to the lower index, between sinks and recent pages.
// grid: kv_heads, sequences; block: 256
extern "C" __global__ void select_pages(SelectArguments a) {
  __shared__ int histogram[256];
  __shared__ int warp_sums[2][8];
  __shared__ unsigned shared_prefix;
  __shared__ int shared_left;
  const int thread = threadIdx.x;
  const int row = blockIdx.y * a.kv_heads + blockIdx.x;
  const SequencePlan plan = a.plans[blockIdx.y];
  int* pages = a.pages + row * a.stride;
  const float* scores = a.scores + static_cast<int64>(row) * a.capacity;
  if (plan.chosen == plan.candidates) {
    for (int i = thread; i < plan.pages; i += 256) pages[i] = i;
    if (thread == 0) a.counts[row] = plan.pages;
    return;
  }

  // The bits of the smallest chosen score, eight at a time; `left` of the scores equal to it are taken.
  unsigned prefix = 0;
  int left = plan.chosen;
  for (int shift = 24; shift >= 0 && left > 0; shift -= 8) {
    histogram[thread] = 0;
    __syncthreads();
    for (int i = thread; i < plan.candidates; i += 256) {
      const unsigned key = ordered(scores[i]);
      if (shift == 24 || (key >> (shift + 8)) == (prefix >> (shift + 8))) atomicAdd(&histogram[key >> shift & 255u], 1);
    }
    __syncthreads();
    if (thread == 0) {
      int digit = 255, above = 0;
      while (above + histogram[digit] < left) above += histogram[digit--];
      shared_prefix = prefix | static_cast<unsigned>(digit) << shift;
      shared_left = left - above;
    }
    __syncthreads();
    prefix = shared_prefix;
    left = shared_left;
    __syncthreads();
  }

  // Ascending: a position is the number of chosen candidates before it.
  for (int i = thread; i < plan.first_candidate; i += 256) pages[i] = i;
  int written = plan.first_candidate, equal_seen = 0;
  for (int begin = 0; begin < plan.candidates && plan.chosen > 0; begin += 256) {
    const int i = begin + thread;
    const unsigned key = i < plan.candidates ? ordered(scores[i]) : 0u;
    const bool above = i < plan.candidates && key > prefix;
    const bool equal = i < plan.candidates && key == prefix;
    const unsigned lower = (1u << (thread & 31)) - 1u;
    const unsigned above_mask = __ballot_sync(0xffffffffu, above), equal_mask = __ballot_sync(0xffffffffu, equal);
    if ((thread & 31) == 0) {
      warp_sums[0][thread / 32] = __popc(above_mask);
      warp_sums[1][thread / 32] = __popc(equal_mask);
    }
    __syncthreads();
    int above_before = __popc(above_mask & lower), equal_before = equal_seen + __popc(equal_mask & lower);
    int above_all = 0, equal_all = 0;
    for (int warp = 0; warp < 8; ++warp) {
      if (warp < thread / 32) above_before += warp_sums[0][warp], equal_before += warp_sums[1][warp];
      above_all += warp_sums[0][warp];
      equal_all += warp_sums[1][warp];
    }
    const int taken_before = above_before + min(equal_before, left) - min(equal_seen, left);
    if (above || (equal && equal_before < left)) pages[written + taken_before] = plan.first_candidate + i;
    written += above_all + min(equal_seen + equal_all, left) - min(equal_seen, left);
    equal_seen += equal_all;
    __syncthreads();
  }
  const int recent = plan.pages - plan.first_candidate - plan.candidates;
  for (int i = thread; i < recent; i += 256) pages[written + i] = plan.first_candidate + plan.candidates + i;
  if (thread == 0) a.counts[row] = written + recent;
}

// Tokens that the list of a row holds; the last listed page is the sequence's last, which may be open.
__device__ inline int listed_tokens(const AttendArguments& a, int row, int sequence) {
  const int count = a.counts[row];
  const int last = a.pages[row * a.stride + count - 1];
  return (count - 1) * a.list_page_size + min(a.list_page_size, a.batch.tokens[sequence] - last * a.list_page_size);
}

// One split of 128 tokens of one row's list.
// grid: splits, kv_heads, sequences; block: 128; shared: (group · (head_dim + 128)) floats
extern "C" __global__ void attend_split(AttendArguments a) {
  extern __shared__ float shared[];
  __shared__ const BFloat16* values[128];
  const int split = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z, thread = threadIdx.x;
  const int row = sequence * a.shape.kv_heads + head;
  const int group = a.shape.group, dim = a.shape.head_dim;
  const int count = min(128, listed_tokens(a, row, sequence) - split * 128);
  if (count <= 0) return;
  float* q = shared;                      // [group, dim]
  float* weights = shared + group * dim;  // [group, 128]
  const float* q_from = a.q + sequence * a.q_stride + static_cast<int64>(head) * group * dim;
  for (int i = thread; i < group * dim; i += 128) q[i] = q_from[i] * a.shape.scale;
  __syncthreads();

  if (thread < count) {
    const int position = split * 128 + thread;
    const int token =
        a.pages[row * a.stride + position / a.list_page_size] * a.list_page_size + position % a.list_page_size;
    const BFloat16* k = token_at(a.k, a.batch, a.shape, sequence, head, token);
    values[thread] = token_at(a.v, a.batch, a.shape, sequence, head, token);
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
  const int splits = (listed_tokens(a, row, sequence) + 127) / 128;
  const float* partial = a.partial + static_cast<int64>(row) * a.splits * group * (dim + 2) + g * (dim + 2);
  const int64 stride = static_cast<int64>(group) * (dim + 2);
  float top = -infinity(), sum = 0.0f;
  for (int s = 0; s < splits; ++s) top = fmaxf(top, partial[s * stride + dim]);
  for (int s = 0; s < splits; ++s) sum += partial[s * stride + dim + 1] * expf(partial[s * stride + dim] - top);
  float* out = a.out + (static_cast<int64>(sequence) * a.shape.kv_heads * group + blockIdx.x) * dim;
  for (int i = threadIdx.x; i < dim; i += blockDim.x) {
    float value = 0.0f;
    for (int s = 0; s < splits; ++s) value += partial[s * stride + i] * expf(partial[s * stride + dim] - top);
    out[i] = value / sum;
  }
}

}  // namespace vortex::cuda
