// The same prompts through the CPU engine, free-running, recorded as the device's run is.
#pragma once

#include <optional>

#include "gpu/llama_walk.h"
#include "ir/program.h"

namespace vortex::gpu_tests {

// Positions of prompts carry no logits and no lists.
WalkResult run_on_engine(const models::ModelConfig&, const models::Weights&, const std::optional<ir::Program>& program,
                         const std::vector<std::vector<int>>& prompts, int decode_tokens);

// Two free runs of the same prompts. A sequence ends at its first other token.
struct Parting {
  int tokens = 0;              // compared
  int sequences = 0;           // that ended early
  double worst_token_gap = 0;  // in a's logits, between a's choice and b's
  double worst_logit = 0;      // largest difference while tokens were equal
  std::int64_t lists = 0, lists_different = 0;
};
Parting compare_runs(const std::vector<std::vector<int>>& prompts, const WalkResult& a, const WalkResult& b);

}  // namespace vortex::gpu_tests
