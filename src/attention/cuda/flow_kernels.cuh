// The chain's kernels that call what a flow prints: `summarize` for a finished page, `finish` for the scores of a row.
// Comes after the flow's text, which defines both, and kFlowPage (tokens of the flow's page) and kFlowHeadDim.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "attention/cuda/select.cuh"
#include "codegen/cuda/flow.cuh"

namespace vortex::cuda {

// The page that the newest token of a sequence finished, if it finished one.
__device__ inline void summarize_newest(const FlowArguments& a, const Block& team, float* shared, int sequence,
                                        int head) {
  const int tokens = a.batch.tokens[sequence];
  if (tokens % kFlowPage != 0) return;
  summarize(FlowContext{a, {}, sequence, head, tokens / kFlowPage - 1}, team, shared);
}

// grid: kv_heads, sequences
extern "C" __global__ void summarize_pages(FlowArguments a) {
  __shared__ float scratch[32];
  __shared__ float shared[kSummarizeFloats];
  const Block team(scratch);
  summarize_newest(a, team, shared, blockIdx.y, blockIdx.x);
}

// grid: kv_heads, sequences
extern "C" __global__ void finish_scores(FlowArguments a) {
  __shared__ float scratch[32];
  __shared__ float shared[kFinishFloats];
  const Block team(scratch);
  const FlowContext c{a, a.plans[blockIdx.y], static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), 0};
  if (c.plan.chosen != c.plan.candidates) finish(c, team, shared);
}

// grid: kv_heads, sequences; block: 256, 512 or 1,024
extern "C" __global__ void __launch_bounds__(1024) finish_and_select(const __grid_constant__ SelectFlowArguments a) {
  __shared__ float scratch[32];
  __shared__ float shared[kFinishFloats];
  let_next_start();
  wait_for_earlier();
  const Block team(scratch);
  const int sequence = blockIdx.y, head = blockIdx.x;
  const FlowContext c{a.flow, a.flow.plans[sequence], sequence, head, 0};
  if (c.plan.chosen != c.plan.candidates) finish(c, team, shared);
  select_row(a.select, sequence, head);
}

// A warp a head: the group's q heads, k, v; then the whole block summarizes the page that this token finished.
// grid: kv_heads, sequences; block: (group + 2) warps
extern "C" __global__ void prepare(const __grid_constant__ PrepareFlowArguments a) {
  constexpr int kHalf = kFlowHeadDim / 2, kPairs = (kHalf + 31) / 32;
  __shared__ float scratch[32];
  __shared__ float shared[kSummarizeFloats];
  const FlowArguments& f = a.flow;
  const PrepareArguments& p = a.prepare;
  const Block team(scratch);
  const int head = blockIdx.x, sequence = blockIdx.y, which = threadIdx.x / 32;
  const int group = f.shape.group, q_heads = f.shape.kv_heads * group;
  const bool is_q = which < group, is_v = which == group + 1;
  const Warp warp;
  let_next_start();
  wait_for_earlier();

  const int position = f.batch.tokens[sequence] - 1;
  const int at = is_q ? head * group + which : q_heads + (is_v ? f.shape.kv_heads : 0) + head;
  const float* from = p.qkv + sequence * p.qkv_stride + static_cast<int64>(at) * kFlowHeadDim;
  float first[kPairs], second[kPairs], squares = 0.0f;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int channel = warp.thread + 32 * i;
    first[i] = channel < kHalf ? from[channel] : 0.0f;
    second[i] = channel < kHalf ? from[channel + kHalf] : 0.0f;
    if (p.bias != nullptr && channel < kHalf)
      first[i] += p.bias[at * kFlowHeadDim + channel], second[i] += p.bias[at * kFlowHeadDim + channel + kHalf];
    squares += first[i] * first[i] + second[i] * second[i];
  }
  const float* norm = is_q ? p.q_norm : p.k_norm;
  if (!is_v && norm != nullptr) {
    const float factor = 1.0f / sqrtf(warp.sum(squares) / kFlowHeadDim + p.epsilon);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int channel = warp.thread + 32 * i;
      if (channel < kHalf) first[i] *= factor * norm[channel], second[i] *= factor * norm[channel + kHalf];
    }
  }
  const Plane& plane = is_v ? f.v : f.k;
  BFloat16* cache = nullptr;
  if (!is_q) {
    const int page = f.batch.page_tables[sequence * f.batch.page_table_stride + position / f.shape.page_size];
    cache = reinterpret_cast<BFloat16*>(plane.base) + page * plane.page_stride + head * plane.head_stride +
            position % f.shape.page_size * plane.token_stride;
  }
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int channel = warp.thread + 32 * i;
    if (channel >= kHalf) continue;
    float x = first[i], y = second[i];
    if (!is_v) {
      const float2 turn = reinterpret_cast<const float2*>(p.rotation)[static_cast<int64>(position) * kHalf + channel];
      x = first[i] * turn.x - second[i] * turn.y;
      y = second[i] * turn.x + first[i] * turn.y;
    }
    if (is_q) {
      float* to = p.q + sequence * f.q_stride + static_cast<int64>(at) * kFlowHeadDim;
      to[channel] = x, to[channel + kHalf] = y;
    } else {
      cache[channel] = to_bfloat16(x), cache[channel + kHalf] = to_bfloat16(y);
    }
  }
  __syncthreads();
  summarize_newest(f, team, shared, sequence, head);
}

}  // namespace vortex::cuda
