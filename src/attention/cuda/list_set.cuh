// Lists of a row from a set: sinks, the candidates in the set, recent pages, ascending; of the flow's pages and of
// physical pages for attend.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "device/cuda/device.cuh"

namespace vortex::cuda {

// in_set(i): whether candidate i is attended. block: whole warps
template <class InSet>
__device__ inline void list_set(const SelectArguments& a, const SequencePlan& plan, int sequence, int head,
                                InSet in_set) {
  __shared__ int of_warp[32];
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, threads = blockDim.x;
  const int64 row = static_cast<int64>(sequence) * a.kv_heads + head;
  const int* const table = a.page_tables + sequence * a.page_table_stride;
  const auto put = [&](int place, int page) {
    a.pages[row * a.stride + place] = page;
    if (a.physical == nullptr) return;
    for (int i = 0; i < a.physical_pages; ++i)
      a.physical[row * a.physical_stride + place * a.physical_pages + i] = table[page * a.physical_pages + i];
  };
  const int first = plan.first_candidate, recent = plan.pages - first - plan.candidates;
  for (int i = thread; i < first; i += threads) put(i, i);
  // A thread has neighbouring candidates.
  const int each = (plan.candidates + threads - 1) / threads;
  const int from = min(thread * each, plan.candidates), to = min(from + each, plan.candidates);
  int mine = 0;
  for (int i = from; i < to; ++i) mine += in_set(i) ? 1 : 0;
  int before = mine;
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, before, step);
    if (lane >= step) before += other;
  }
  if (lane == 31) of_warp[warp] = before;
  __syncthreads();
  int place = first + before - mine, chosen = 0;
  for (int w = 0; w < threads / 32; ++w) {
    if (w < warp) place += of_warp[w];
    chosen += of_warp[w];
  }
  for (int i = from; i < to; ++i)
    if (in_set(i)) put(place++, first + i);
  for (int i = thread; i < recent; i += threads) put(first + chosen + i, first + plan.candidates + i);
  if (thread != 0) return;
  const int count = first + chosen + recent;
  a.counts[row] = count;
  if (a.physical != nullptr) a.listed[row] = (count - plan.pages) * a.page_size + plan.tokens;
}

}  // namespace vortex::cuda
