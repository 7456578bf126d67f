// What a flow costs by its plan alone: bytes and operations of one decode step, memory of its summaries, and what a
// machine limited by bytes could gain. It measures nothing and knows no device.
#pragma once

#include <cstdint>

#include "compiler/plan.h"

namespace vortex::compiler {

// A model and a moment of its decoding: `batch` sequences of `context` tokens each.
struct Workload {
  std::int64_t layers = 1, heads = 1, kv_heads = 1, head_dim = 64;
  std::int64_t context = 4096, batch = 1;
  std::int64_t weight_bytes = 0;  // read by one decode step whatever the batch; 0: left out
};

struct Price {
  // One row (one sequence and KV head) of a sparse layer, in pages of the flow.
  std::int64_t pages = 0, candidates = 0, attended_pages = 0, attended_tokens = 0;
  // Memory: one page of one KV head in one layer.
  std::int64_t summary_bytes_per_page = 0, kv_bytes_per_page = 0;
  // One decode step of the whole batch over all layers. Operations count each element of each value once, a contraction
  // twice; a page stage reads each summary it names once a candidate.
  double score_bytes = 0, score_operations = 0;
  double attend_bytes = 0;          // keys and values of the attended tokens; full-attention layers attend all
  double full_attention_bytes = 0;  // the same step with full attention everywhere
  double weight_bytes = 0;

  double attention_speedup() const;  // bytes of full attention over bytes of this flow's attention
  double step_speedup() const;       // the same with the weights on both sides
};

// UserError when the workload has a size below 1 or does not fit the plan's geometry.
Price price(const Plan&, const Workload&);

}  // namespace vortex::compiler
