// What a sequence does in a step under one flow: a few numbers, made by a thread.
#pragma once

#include "attention/cuda/chain_arguments.h"

namespace vortex::cuda {

__device__ inline int pages_of(const PlanArguments& a, int sequence) {
  return (a.tokens[sequence] + a.page_size - 1) / a.page_size;
}

// Pages that the settings ask for.
__device__ inline long long budget_of_settings(const PlanArguments& a, int pages) {
  const long long share = static_cast<long long>(a.budget_ratio * static_cast<double>(pages));
  return a.budget > share ? a.budget : share;
}

// wanted: pages attended in all.
__device__ inline SequencePlan plan_of(const PlanArguments& a, int sequence, long long wanted) {
  SequencePlan out;
  out.tokens = a.tokens[sequence], out.pages = pages_of(a, sequence);
  const int recent = a.recent > 1 ? a.recent : 1;
  const int pinned = min(a.sinks + recent, out.pages);
  if (wanted < pinned) wanted = pinned;
  if (wanted > out.pages) wanted = out.pages;
  const bool full = a.full != 0 || (a.dense_until != nullptr && out.tokens <= a.dense_until[sequence]);
  out.candidates = out.pages - pinned;
  out.first_candidate = out.candidates > 0 ? a.sinks : 0;
  out.left = static_cast<int>(wanted) - pinned, out.kept = 0;
  out.chosen = full ? out.candidates : out.left;
  if (a.open != 0) {
    out.left = out.candidates;
    if (!full && out.candidates > 0) out.chosen = -1;
  }
  return out;
}

}  // namespace vortex::cuda
