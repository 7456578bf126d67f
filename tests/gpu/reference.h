// The same Llama in double precision, made to follow a device's tokens and page lists, so that each step is judged by
// itself: a difference is either rounding or a defect, never the echo of an earlier near tie.
#pragma once

#include <optional>

#include "gpu/llama_walk.h"
#include "ir/program.h"

namespace vortex::gpu_tests {

// Largest differences between the device and the reference.
struct Agreement {
  int tokens = 0, tokens_different = 0;  // greedy tokens compared; those where the reference's first choice is another
  double worst_token_gap = 0;            // in the reference's logits, between its choice and the device's
  double worst_logit = 0, largest_logit = 0;    // of decoding
  double worst_prompt_logit = 0;                // of prompt positions, the first few tokens among them
  std::int64_t lists = 0, lists_different = 0;  // lists of sparse decode rows
  double worst_list_gap = 0;  // relative: how far below the k-th score the worst page that the device chose instead is
  std::string failure;        // what no rounding explains; "" when nothing
};

// Judges the list of a sparse row that came, by scores in double precision.
void judge_list(const ir::FlowConfig&, std::int64_t pages, const std::vector<std::int64_t>& candidates,
                const std::vector<double>& scores, const std::vector<std::int64_t>& came, Agreement&);

// program: the flow as it was written; none: full attention.
Agreement compare(const models::ModelConfig&, const models::Weights&, const std::optional<ir::Program>& program,
                  const std::vector<std::vector<int>>& prompts, const WalkResult&);

}  // namespace vortex::gpu_tests
