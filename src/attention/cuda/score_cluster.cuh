// Makes q, scores and selects few rows on sm_90, a cluster of blocks a row: the blocks send what they make of their
// candidates to the shared memory of the first, which finishes and selects; the second writes q, k, v and the summary
// of a page that the token finished. Comes after flow_kernels.cuh; at most kMostKeys candidates.
#pragma once

#include "attention/cuda/flow_kernels.cuh"

namespace vortex::cuda {

constexpr int kMostKeys = 8192, kRowWarps = kMostSelectWarps, kRowThreads = kRowWarps * 32;

// a.chunks: blocks of a cluster. grid: clusters, kv_heads · sequences of them; block: kRowThreads; shared: kMostKeys
// numbers and a row's workspace
extern "C" __global__ void __launch_bounds__(kRowThreads, 1) score_row(const __grid_constant__ ScoreFlowArguments a) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(16) unsigned keys[];
  __shared__ float of_tiles[kRowWarps][VORTEX_SCORE(floats)];
  __shared__ float of_finish[kFinishFloats], scratch[32];
  __shared__ SelectScratch selection;
  __shared__ SequencePlan plan;
  __shared__ __align__(16) float q[kFlowGroup * kFlowHeadDim], turn[kFlowHeadDim], norm[kFlowHeadDim];
  float* const workspace = reinterpret_cast<float*>(keys + kMostKeys);
  const FlowArguments& f = a.flow;
  const PrepareArguments& p = a.prepare;
  const int row = blockIdx.x / a.chunks, rank = blockIdx.x % a.chunks, warp = threadIdx.x / 32;
  const int sequence = row / f.shape.kv_heads, head = row % f.shape.kv_heads;
  const int step = a.chunks * kRowWarps * 16, from = (rank * kRowWarps + warp) * 16;
  let_next_start();
  cluster_arrive();  // others may send when they have seen it

  // What does not hang on the work before: summaries on their way, the turn of the position, the norm.
  {
    const int tokens = __ldcg(f.batch.tokens + sequence);
    SequencePlan early{};
    early.first_candidate = __ldcg(&f.plans[sequence].first_candidate);
    VORTEX_SCORE(ahead)
    (FlowContext{f, early, sequence, head, 0}, tokens / kFlowPage - 1, from, min(f.capacity, from + 4 * step), step);
    for (int i = threadIdx.x; i < kFlowHeadDim; i += kRowThreads) {
      turn[i] = rotation_of(p, tokens - 1)[i];
      if (p.q_norm != nullptr) norm[i] = p.q_norm[i];
    }
  }
  __syncthreads();
  wait_for_earlier();

  if (threadIdx.x == kRowThreads - 1) plan = f.plans[sequence];
  for (int g = warp; g < kFlowGroup; g += kRowWarps) {
    NewHead made = new_head(p, sequence, head * kFlowGroup + g);
    made.normalize(p.q_norm == nullptr ? nullptr : norm, p.epsilon);
    made.rotate(turn);
    made.write([&](int channel, float x) { q[g * kFlowHeadDim + channel] = x; });
  }
  __syncthreads();
  cluster_wait();
  if (plan.chosen != plan.candidates) VORTEX_SCORE(tiles)
  (FlowContext{f, plan, sequence, head, 0, pointer_in(workspace, 0)}, q, of_tiles[warp], from, plan.candidates, step);
  cluster_arrive();

  const BlockOf<kRowThreads> block(scratch);
  if constexpr (kSummarizeFloats <= kMostKeys) {
    if (rank == 1) prepare_row(f, p, block, reinterpret_cast<float*>(keys), sequence, head);
  }
  cluster_wait();
  if (rank != 0) return;
  const FlowContext c{f, plan, sequence, head, 0, workspace};
  if (c.plan.chosen == c.plan.candidates) return list_all(a.select, c.plan, sequence, head);
  finish(c, block, of_finish, [&](int page, float score) { keys[page] = ordered(score); });
  __syncthreads();
  select_row<kRowWarps, 4>(selection, a.select, c.plan, sequence, head, [&](int i) { return keys[i]; });
#endif
}

}  // namespace vortex::cuda
