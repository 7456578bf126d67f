// The attention of one step on the CPU: append, summarize, score, select, attend, for decodes and prefill chunks at
// once. Bits of a row depend on its q and its page list alone: not on the batch, the threads, or how a prompt was cut
// in chunks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/arena.h"
#include "attention/cpu/workspace.h"
#include "attention/layer.h"
#include "attention/types.h"
#include "base/thread_pool.h"

namespace vortex::attention {

// What decode rows of one layer did. Prefill is not counted.
struct LayerCounts {
  std::int64_t rows = 0;
  std::int64_t sparse_rows = 0;     // rows that attended a list of pages
  std::int64_t reused_rows = 0;     // of these, rows whose list an earlier layer or an earlier step chose
  std::int64_t covered_rows = 0;    // rows of sparse slices whose budget covered every page: full attention
  std::int64_t candidates = 0;      // pages scored
  std::int64_t attended_pages = 0;  // in pages of the row's flow (physical pages for full attention)
  std::int64_t attended_tokens = 0;
};

// Seconds are sums over threads divided by the number of threads, so they add up to the step's attention at most.
struct StepStatistics {
  std::vector<LayerCounts> layers;    // [layers]
  std::int64_t summary_bytes = 0;     // read by scoring
  std::int64_t kv_bytes = 0;          // read by attending, decode rows only
  std::int64_t summarized_pages = 0;  // (flow page, KV head, layer) made from pages this step finished
  std::int64_t rebuilt_pages = 0;     // flow pages whose summaries were missing and were made again from stored K and V
  double append_seconds = 0, summarize_seconds = 0, score_seconds = 0, select_seconds = 0, attend_seconds = 0;
  double prefill_seconds = 0;  // attention of prefill chunks
};

class CpuStep final : public LayerAttention {
 public:
  // layers: KV of each layer, [geometry.layers]. Everything spanned or referenced outlives the step. Candidates of
  // sparse slices whose summaries are not valid are rebuilt here, for all layers. InternalError when a slice does not
  // fit.
  CpuStep(const Geometry&, std::span<const KvView> layers, std::span<const LoadedFlow> flows,
          std::span<const Slice> slices, StepWorkspace&, ThreadPool&);

  // Layers run in ascending order, each once. Summaries of pages finished in this step become valid with the last
  // layer.
  void run(std::int32_t layer, const float* q, const float* k, const float* v, float* out) override;

  const StepStatistics& statistics() const;

  // The pages that a decode row attended in the layer run last, ascending, in pages of its flow; empty: all of them.
  std::span<const std::int32_t> selected(std::int64_t slice, std::int64_t kv_head) const;

 private:
  StepWorkspace::State& state_;
};

}  // namespace vortex::attention
