// What steps cost, part by part. Sums over steps; seconds of attention's parts are averages over threads.
#pragma once

#include <cstdint>
#include <vector>

#include "device/profile.h"

namespace vortex::engine {

struct StepStatistics {
  std::int64_t steps = 0, tokens = 0;
  double seconds = 0;  // whole steps
  double append_seconds = 0, summarize_seconds = 0, score_seconds = 0, select_seconds = 0, attend_seconds = 0;
  double prefill_seconds = 0;  // attention of prefill chunks
  double other_seconds = 0;    // the rest of the model: linears, norms, logits
  // Counted over decode rows and layers:
  std::int64_t rows = 0;             // (sequence, KV head, layer)
  std::int64_t sparse_rows = 0;      // of these, rows that attended a list of pages
  std::int64_t reused_rows = 0;      // of these, rows whose list an earlier layer or an earlier step chose
  std::int64_t covered_rows = 0;     // rows of a flow whose budget covered every page
  std::int64_t candidate_pages = 0;  // flow pages scored
  std::int64_t attended_pages = 0, attended_tokens = 0;
  std::int64_t summary_bytes = 0, kv_bytes = 0;  // read by scoring and by attending
  std::int64_t summarized_pages = 0, rebuilt_summaries = 0;
};

// A decode step by kernels, in the order of their first launch: alone, one after the other, and all in their graph.
struct StepProfile {
  std::vector<device::KernelTime> kernels;
  double step_milliseconds = 0;  // of the graph, replayed
  std::int64_t launches = 0;
};

}  // namespace vortex::engine
