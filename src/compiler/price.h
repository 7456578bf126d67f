// What a flow costs by its plan alone: bytes and operations of one decode step, memory of its summaries, what a machine
// limited by bytes could gain, and the least time a described device needs. It measures nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "compiler/plan.h"

namespace vortex::compiler {

// A model and a moment of its decoding: `batch` sequences of `context` tokens each.
struct Workload {
  std::int64_t layers = 1, heads = 1, kv_heads = 1, head_dim = 64;
  std::int64_t context = 4096, batch = 1;
  std::int64_t token_bytes = 0;   // of the K and V of one token and KV head as they are stored; 0: both in bf16
  std::int64_t weight_bytes = 0;  // read by one decode step whatever the batch; 0: left out
  std::int64_t weights = 0;       // numbers in those bytes, two operations a sequence each; 0: left out
};

// One stage for one row of one sparse layer in one step (summarize: for one page of one KV head, when it is full).
struct StagePrice {
  StageKind kind;
  double read_bytes = 0;  // summaries, state and q; summarize: keys and values
  double kept_bytes =
      0;  // fp32 page values written for later stages or read from earlier ones, and state set; summarize: summaries
  double operations = 0;
  double loose_operations = 0;  // apart from contractions of summaries, which take as long as their bytes
  double parameter_bytes = 0;   // row: once a layer and KV head, for all rows
};

struct Price {
  // One row (one sequence and KV head) of a sparse layer, in pages of the flow; attended ones on average over layers.
  std::int64_t pages = 0, candidates = 0, attended_pages = 0, attended_tokens = 0;
  // Memory: one page of one KV head in one layer.
  std::int64_t summary_bytes_per_page = 0, kv_bytes_per_page = 0;
  // What one sequence carries from step to step, all layers and KV heads: state and the sets it keeps.
  std::int64_t carried_bytes_per_sequence = 0;
  // The pool that holds the workload, all layers and KV heads.
  std::int64_t summary_pool_bytes = 0, kv_pool_bytes = 0;
  std::vector<StagePrice> stages;                     // as in the plan
  std::vector<std::vector<StagePrice>> other_stages;  // of the plans for some layers
  // One decode step of the whole batch over all layers, on average over the steps between two choices of pages.
  // Layers that take the set of another score nothing. Operations count each element of each value once, a contraction
  // twice; a page stage reads each summary it names once a candidate.
  double score_bytes = 0, score_operations = 0;
  // Of these operations those that are no contraction of a summary over an axis of its own, and moves between pages and
  // groups: what a CPU computes beside the bytes it reads.
  double loose_score_operations = 0;
  // Score bytes if every layer that is sparse read the summaries of every candidate page at every step: without groups,
  // sets of pages, reuse and refresh_every.
  double flat_score_bytes = 0;
  double select_bytes = 0;          // the scores, read once to choose
  double attend_bytes = 0;          // keys and values of the attended tokens; full-attention layers attend all
  double full_attention_bytes = 0;  // the same step with full attention everywhere
  double weight_bytes = 0;
  double attend_operations = 0, full_attention_operations = 0, weight_operations = 0;

  double attention_speedup() const;  // bytes of full attention over bytes of this flow's attention
  double step_speedup() const;       // the same with the weights on both sides
};

// What a device can do at most. bytes: read from memory; operations: fp32 multiplications and additions.
struct Device {
  std::string name;
  double bytes_per_second = 0, operations_per_second = 0;  // 0 operations: no limit
};

// The least seconds of one decode step on a device, part by part: each the longer of its bytes and its operations.
struct Roofline {
  double score = 0, select = 0, attend = 0, linears = 0, full_attention = 0;

  double step() const { return score + select + attend + linears; }
  double full_step() const { return full_attention + linears; }
  double speedup() const { return full_step() / step(); }
};

// UserError when the device reads nothing a second.
Roofline roofline(const Price&, const Device&);

// UserError when the workload has a size below 1 or does not fit the plan's geometry.
Price price(const Plan&, const Workload&);

}  // namespace vortex::compiler
