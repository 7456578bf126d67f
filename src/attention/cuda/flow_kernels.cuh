// The chain's kernels that call what a flow prints: `summarize` for a finished page, `finish` for the scores of a row.
// Comes after the flow's text, which defines both, and kFlowPage (tokens of the flow's page) and kFlowHeadDim. With
// VORTEX_SCORES_ALONE it has the kernels that summarize and score, and not those of a step.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "attention/cuda/keep.cuh"
#include "attention/cuda/list_set.cuh"
#include "attention/cuda/plan.cuh"
#include "attention/cuda/select.cuh"
#include "codegen/cuda/flow.cuh"

namespace vortex::cuda {

// grid: sequences / block, layers planned; block: any. A thread a sequence: plans [layers, sequences].
extern "C" __global__ void plan_rows(PlanArguments a) {
  const int sequence = blockIdx.x * blockDim.x + threadIdx.x, layer = static_cast<int>(blockIdx.y);
  if (sequence >= a.sequences) return;
  const int pages = pages_of(a, sequence);
#ifdef VORTEX_BUDGET
  const double budget = floor(in_double::flow_budget(
      {a.tokens[sequence], pages, a.steps == nullptr ? 0 : a.steps[sequence], a.layer + layer, a.layers, a.scale}));
  const long long wanted = budget > 0.0 ? static_cast<long long>(fmin(budget, static_cast<double>(pages))) : 0;
#else
  const long long wanted = budget_of_settings(a, pages);
#endif
  SequencePlan plan = plan_of(a, sequence, wanted);
#ifdef VORTEX_KEEPS
  if (plan.chosen != plan.candidates) {
    plan.kept = kept_pages(a.kept, sequence, gridDim.y > 1 ? a.layer + layer : a.kept_layer, plan.pages);
    if (plan.kept > 0) plan.chosen = plan.candidates;
  }
#endif
  a.plans[layer * a.sequences + sequence] = plan;
}

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

// grid: kv_heads, sequences; block: 128
extern "C" __global__ void __launch_bounds__(128) finish_scores(FlowArguments a) {
  __shared__ float scratch[32];
  __shared__ float shared[kFinishFloats];
  const BlockOf<128> team(scratch);
  const FlowContext c{a, a.plans[blockIdx.y], static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.x), 0};
  float* const scores = a.scores + (static_cast<int64>(c.sequence) * a.shape.kv_heads + c.head) * a.capacity;
  if (kFlowAdvances || c.plan.chosen != c.plan.candidates)
    finish(c, team, shared, [&](int page, float score) { scores[page] = score; });
}

#ifndef VORTEX_SCORES_ALONE

// Whether a row attends what it attended in an earlier step; then its list is made.
__device__ inline bool recalls(const SelectFlowArguments& a, const FlowContext& c) {
#ifdef VORTEX_KEEPS
  if (c.plan.kept > 0) recall_list(a.select, a.kept, c.plan, c.sequence, a.flow.layer, c.head);
  return c.plan.kept > 0;
#else
  return false;
#endif
}

// The row's list, which the block has made, for later steps.
__device__ inline void keep_for_later(const SelectFlowArguments& a, const FlowContext& c) {
#ifdef VORTEX_KEEPS
  __syncthreads();
  keep_list(a.select, a.kept, c.plan, c.sequence, a.flow.layer, c.head);
#endif
}

#ifdef VORTEX_SET

// grid: kv_heads, sequences; block: 256
extern "C" __global__ void __launch_bounds__(256, 2) finish_and_select(const __grid_constant__ SelectFlowArguments a) {
  __shared__ float scratch[32];
  __shared__ float shared[kFinishFloats];
  let_next_start();
  wait_for_earlier();
  const BlockOf<256> team(scratch);
  const int sequence = blockIdx.y, head = blockIdx.x;
  const FlowContext c{a.flow, a.flow.plans[sequence], sequence, head, 0};
  if (recalls(a, c)) return keep_for_later(a, c);
  const bool all = c.plan.chosen == c.plan.candidates;
  const int64 row = static_cast<int64>(sequence) * a.flow.shape.kv_heads + head;
  float* const scores = a.flow.scores + row * a.flow.capacity;
  if (kFlowAdvances || !all) finish(c, team, shared, [&](int page, float in_set) { scores[page] = in_set; });
  __syncthreads();
#ifdef VORTEX_REST
  // Of a row that attends every page nothing is left.
  float* const rest = a.flow.rest + row * a.flow.shape.group * (1 + kFlowHeadDim);
  if (all && threadIdx.x < a.flow.shape.group) rest[threadIdx.x] = -infinity();
#endif
  list_set(a.select, c.plan, sequence, head, [&](int i) { return all || scores[i] != 0.0f; });
  keep_for_later(a, c);
}

#else

// A row of a block of kThreads. Keys of at most kKeys candidates stay in shared memory; a longer row's scores go
// through memory.
template <int kThreads, int kKeys>
__device__ __forceinline__ void finish_and_select_row(const SelectFlowArguments& a) {
  __shared__ unsigned keys[kKeys];
  __shared__ float scratch[32];
  __shared__ float shared[kFinishFloats];
  __shared__ SelectScratch selection;
  let_next_start();
  wait_for_earlier();
  const BlockOf<kThreads> team(scratch);
  const int sequence = blockIdx.y, head = blockIdx.x;
  const FlowContext c{a.flow, a.flow.plans[sequence], sequence, head, 0};
  if (recalls(a, c)) return keep_for_later(a, c);
  const bool all = c.plan.chosen == c.plan.candidates, near = c.plan.candidates <= kKeys;
  float* const scores = a.flow.scores + (static_cast<int64>(sequence) * a.flow.shape.kv_heads + head) * a.flow.capacity;
  if (kFlowAdvances || !all) {
    finish(c, team, shared, [&](int page, float score) {
      if (near) {
        keys[page] = ordered(score);
      } else {
        scores[page] = score;
      }
    });
  }
  if (all) {
    list_all(a.select, c.plan, sequence, head);
  } else {
    __syncthreads();
    constexpr int kWarps = kThreads / 32, kKept = kWarps < kSelectWarps ? 4 : kKeptKeys;
    select_row<kWarps, kKept>(selection, a.select, c.plan, sequence, head,
                              [&](int i) { return near ? keys[i] : ordered(scores[i]); });
  }
  keep_for_later(a, c);
}

// grid: kv_heads, sequences; block: 256
extern "C" __global__ void __launch_bounds__(256, 2) finish_and_select(const __grid_constant__ SelectFlowArguments a) {
  finish_and_select_row<256, kFinishFloats <= 4096 ? 4096 : 32>(a);
}

#ifdef VORTEX_ANY_TEAM

// The same by fewer threads a row, of which more run at a time. block: 128 and 64
extern "C" __global__ void __launch_bounds__(128, 8) select_by_128(const __grid_constant__ SelectFlowArguments a) {
  finish_and_select_row<128, 1024>(a);
}
extern "C" __global__ void __launch_bounds__(64, 16) select_by_64(const __grid_constant__ SelectFlowArguments a) {
  finish_and_select_row<64, 512>(a);
}

#endif

#endif  // VORTEX_SET

// A head of the newest token of a sequence: channels lane + 32 · i and those half a head after them.
struct NewHead {
  static constexpr int kHalf = kFlowHeadDim / 2, kPairs = (kHalf + 31) / 32;
  const Warp warp;
  float first[kPairs], second[kPairs];

  // bias: of the head's channels, or null.
  __device__ NewHead(const float* from, const float* bias) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int channel = warp.thread + 32 * i;
      first[i] = channel < kHalf ? from[channel] : 0.0f;
      second[i] = channel < kHalf ? from[channel + kHalf] : 0.0f;
      if (bias != nullptr && channel < kHalf) first[i] += bias[channel], second[i] += bias[channel + kHalf];
    }
  }
  __device__ void normalize(const float* norm, float epsilon) {
    if (norm == nullptr) return;
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) squares += first[i] * first[i] + second[i] * second[i];
    const float factor = 1.0f / sqrtf(warp.sum(squares) / kFlowHeadDim + epsilon);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int channel = warp.thread + 32 * i;
      if (channel < kHalf) first[i] *= factor * norm[channel], second[i] *= factor * norm[channel + kHalf];
    }
  }
  __device__ void rotate(const float* of_position) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int channel = warp.thread + 32 * i;
      if (channel >= kHalf) continue;
      const float2 turn = reinterpret_cast<const float2*>(of_position)[channel];
      const float x = first[i], y = second[i];
      first[i] = x * turn.x - y * turn.y, second[i] = y * turn.x + x * turn.y;
    }
  }
  // Of the head as a vector of bytes.
  __device__ ByteScale byte_scale() const {
    float top = 0.0f, others = 0.0f;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      top = fmaxf(top, fmaxf(fabsf(first[i]), fabsf(second[i])));
      if (!(fabsf(first[i]) < infinity()) || !(fabsf(second[i]) < infinity())) others = 1.0f;
    }
    return ByteScale(warp.max(top), warp.max(others) == 0.0f);
  }
  template <class Write>
  __device__ void write(Write write) const {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int channel = warp.thread + 32 * i;
      if (channel < kHalf) write(channel, first[i]), write(channel + kHalf, second[i]);
    }
  }
};

// Head `at` of a sequence's q, k and v side by side.
__device__ inline NewHead new_head(const PrepareArguments& p, int sequence, int at) {
  const int64 channel = static_cast<int64>(at) * kFlowHeadDim;
  return NewHead(p.qkv + sequence * p.qkv_stride + channel, p.bias == nullptr ? nullptr : p.bias + channel);
}

__device__ inline const float* rotation_of(const PrepareArguments& p, int position) {
  return p.rotation + static_cast<int64>(position) * kFlowHeadDim;
}

// A query head as attention sees it.
__device__ inline NewHead new_query(const FlowArguments& f, const PrepareArguments& p, int sequence, int q_head) {
  NewHead out = new_head(p, sequence, q_head);
  out.normalize(p.q_norm, p.epsilon);
  out.rotate(rotation_of(p, f.batch.tokens[sequence] - 1));
  return out;
}

// Warps in turn: the group's q heads, k, v; then the whole block summarizes the page that this token finished.
__device__ inline void prepare_row(const FlowArguments& f, const PrepareArguments& p, const Block& team, float* shared,
                                   int sequence, int head) {
  const int group = f.shape.group, q_heads = f.shape.kv_heads * group, position = f.batch.tokens[sequence] - 1;
  for (int which = threadIdx.x / 32; which < group + 2; which += blockDim.x / 32) {
    if (which < group) {
      const int at = head * group + which;
      float* const to = p.q + sequence * f.q_stride + static_cast<int64>(at) * kFlowHeadDim;
      new_query(f, p, sequence, at).write([&](int channel, float x) { to[channel] = x; });
      continue;
    }
    const bool is_v = which == group + 1;
    const int at = q_heads + (is_v ? f.shape.kv_heads : 0) + head;
    NewHead made = new_head(p, sequence, at);
    if (!is_v) made.normalize(p.k_norm, p.epsilon), made.rotate(rotation_of(p, position));
    const Plane& plane = is_v ? f.v : f.k;
    const int page = f.batch.page_tables[sequence * f.batch.page_table_stride + position / f.shape.page_size];
    const int place = position % f.shape.page_size;
    Stored* const cache = static_cast<Stored*>(plane.base) + page * plane.page_stride + head * plane.head_stride +
                          place * plane.token_stride;
#if VORTEX_KV == 0
    made.write([&](int channel, float x) { cache[channel] = to_bfloat16(x); });
#else
    const ByteScale scale = made.byte_scale();
    made.write([&](int channel, float x) {
      cache[channel] = scale.factor > 0.0f ? to_byte(x * scale.factor) : static_cast<Stored>(0);
    });
    if (made.warp.thread == 0)
      plane.scales[page * plane.scale_page_stride + head * plane.scale_head_stride + place] = scale.scale;
#endif
  }
  __syncthreads();
  summarize_newest(f, team, shared, sequence, head);
}

// grid: kv_heads, sequences; block: (group + 2) warps
extern "C" __global__ void prepare(const __grid_constant__ PrepareFlowArguments a) {
  __shared__ float scratch[32];
  __shared__ float shared[kSummarizeFloats];
  let_next_start();
  wait_for_earlier();
  prepare_row(a.flow, a.prepare, Block(scratch), shared, blockIdx.y, blockIdx.x);
}

#ifdef VORTEX_SCORE

// Makes q when it is not there, scores, and selects: a block has a chunk of a row's candidates, and the one that scored
// last finishes and selects the row. Blocks of their own write q, k and v for attend, and the summary of a page that
// the token finished: it is the sequence's last and no candidate yet. At most 8,192 candidates. grid: (1 +) chunks,
// kv_heads, sequences; block: 256
extern "C" __global__ void __launch_bounds__(256, 2) score_and_select(const __grid_constant__ ScoreFlowArguments a) {
  constexpr int kKeys = 8192, kOfAWarp = kKeys / kSelectWarps;
  __shared__ __align__(16) unsigned keys[kKeys];  // q of a warp before it holds keys
  __shared__ float scratch[32];
  __shared__ float of_tiles[kSelectWarps][VORTEX_SCORE(floats)];
  __shared__ float of_finish[kFinishFloats];
  __shared__ SelectScratch selection;
  __shared__ int arrived;
  const FlowArguments& f = a.flow;
  const BlockOf<256> block(scratch);
  const int head = blockIdx.y, sequence = blockIdx.z, warp = threadIdx.x / 32;
  const int chunk = static_cast<int>(blockIdx.x) - (a.prepare.qkv == nullptr ? 0 : 1);
  let_next_start();
  if (chunk < 0) {
    wait_for_earlier();
    if constexpr (kSummarizeFloats <= kKeys)
      prepare_row(f, a.prepare, block, reinterpret_cast<float*>(keys), sequence, head);
    return;
  }
  constexpr int kStep = kSelectWarps * 16;
  const int per_chunk = (f.capacity + a.chunks * 16 - 1) / (a.chunks * 16) * 16;
  const int from = chunk * per_chunk + warp * 16, to = (chunk + 1) * per_chunk;
  {
    SequencePlan early{};
    early.first_candidate = __ldcg(&f.plans[sequence].first_candidate);
    const int last = __ldcg(f.batch.tokens + sequence) / kFlowPage - 1;
    VORTEX_SCORE(ahead)(FlowContext{f, early, sequence, head, 0}, last, from, min(to, from + 2 * kStep), kStep);
  }
  wait_for_earlier();

  const FlowContext c{f, f.plans[sequence], sequence, head, 0};
  if (c.plan.chosen == c.plan.candidates) {
    if (chunk == 0) list_all(a.select, c.plan, sequence, head);
    return;
  }
  if (from < min(to, c.plan.candidates)) {
    const float* q = q_of(c);
    if (a.prepare.qkv != nullptr) {
      float* const made = reinterpret_cast<float*>(keys) + warp * kOfAWarp;
      if constexpr (kFlowGroup * kFlowHeadDim <= kOfAWarp) {
#pragma unroll
        for (int g = 0; g < kFlowGroup; ++g)
          new_query(f, a.prepare, sequence, head * kFlowGroup + g).write([&](int channel, float x) {
            made[g * kFlowHeadDim + channel] = x;
          });
      }
      __syncwarp();
      q = made;
    }
    VORTEX_SCORE(tiles)(c, q, of_tiles[warp], from, to, kStep);
  }

  __syncthreads();
  int* const arrivals = a.arrivals + sequence * f.shape.kv_heads + head;
  if (threadIdx.x == 0) {
    __threadfence();
    arrived = atomicAdd(arrivals, 1);
    __threadfence();
  }
  __syncthreads();
  if (arrived != a.chunks - 1) return;
  if (threadIdx.x == 0) *arrivals = 0;
  finish(c, block, of_finish, [&](int page, float score) { keys[page] = ordered(score); });
  __syncthreads();
  select_row(selection, a.select, c.plan, sequence, head, [&](int i) { return keys[i]; });
}

#endif

#endif  // VORTEX_SCORES_ALONE

}  // namespace vortex::cuda

#if defined(VORTEX_SCORE_ROW) && !defined(VORTEX_SCORES_ALONE)
#include "attention/cuda/score_cluster.cuh"
#endif
