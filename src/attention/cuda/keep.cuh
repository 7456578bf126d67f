// Lists that rows keep from step to step (refresh_every): chosen at some steps, attended again at those in between with
// the pages that came since. What is kept of a row: the pages its sequence had, how many are listed, the list; floats
// in the memory of the sequence, twice, as steps of even and of odd numbers find it.
#pragma once

#include "attention/cuda/chain_arguments.h"
#include "device/cuda/device.cuh"

namespace vortex::cuda {

struct KeptRow {
  const float* from;
  float* to;
};
__device__ inline KeptRow kept_row(const KeptLists& k, int sequence, int layer, int head) {
  const int64 half = static_cast<int64>(k.layers) * k.kv_heads * k.elements;
  float* const at = k.carried[sequence].base + k.before +
                    (static_cast<int64>(layer) * k.kv_heads + head) * static_cast<int64>(k.elements);
  const bool odd = k.steps[sequence] % 2 != 0;
  return {at + (odd ? half : 0), at + (odd ? 0 : half)};
}

// Whether the lists of a layer are attended again: the pages of then, or 0.
__device__ inline int kept_pages(const KeptLists& k, int sequence, int layer, int pages) {
  if (k.carried == nullptr || k.steps[sequence] % k.refresh_every == 0) return 0;
  const int kept = static_cast<int>(*kept_row(k, sequence, layer, 0).from);
  return kept > 0 && kept <= pages && pages - kept <= k.margin ? kept : 0;
}

// The list of a row for the steps to come: the one that select has written, or what was kept before. block: any
__device__ inline void keep_list(const SelectArguments& a, const KeptLists& k, const SequencePlan& plan, int sequence,
                                 int layer, int head) {
  const KeptRow row = kept_row(k, sequence, layer, head);
  const int64 number = static_cast<int64>(sequence) * a.kv_heads + head;
  if (plan.kept > 0 || plan.chosen == plan.candidates) {
    const int count = row.from[0] > 0.0f ? 2 + static_cast<int>(row.from[1]) : 1;
    for (int i = threadIdx.x; i < count; i += blockDim.x) row.to[i] = row.from[i];
    return;
  }
  const int count = a.counts[number];
  for (int i = threadIdx.x; i < count; i += blockDim.x)
    row.to[2 + i] = static_cast<float>(a.pages[number * a.stride + i]);
  if (threadIdx.x == 0) row.to[0] = static_cast<float>(plan.pages), row.to[1] = static_cast<float>(count);
}

// The kept list and the pages that came since, as this step's list. block: any
__device__ inline void recall_list(const SelectArguments& a, const KeptLists& k, const SequencePlan& plan, int sequence,
                                   int layer, int head) {
  const KeptRow row = kept_row(k, sequence, layer, head);
  const int64 number = static_cast<int64>(sequence) * a.kv_heads + head;
  const int* const table = a.page_tables + sequence * a.page_table_stride;
  const int held = static_cast<int>(row.from[1]), count = held + plan.pages - plan.kept;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    const int page = i < held ? static_cast<int>(row.from[2 + i]) : plan.kept + i - held;
    a.pages[number * a.stride + i] = page;
    if (a.physical == nullptr) continue;
    for (int part = 0; part < a.physical_pages; ++part)
      a.physical[number * a.physical_stride + i * a.physical_pages + part] = table[page * a.physical_pages + part];
  }
  if (threadIdx.x != 0) return;
  a.counts[number] = count;
  if (a.physical != nullptr) a.listed[number] = (count - plan.pages) * a.page_size + plan.tokens;
}

}  // namespace vortex::cuda
