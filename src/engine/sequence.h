// One request on its way through the engine.
#pragma once

#include <vector>

#include "engine/runner.h"
#include "kv/tree.h"

namespace vortex::engine {

struct Sequence {
  std::int64_t id = 0;
  Request request;
  std::vector<std::int32_t> tokens;  // prompt and answer
  kv::PageTable table;               // pages for all of `stored`, and for the whole prompt from admission on
  std::int64_t stored = 0;           // tokens whose KV is computed
  std::int64_t decode_steps = 0;
  kv::PrefixTree::NodeId locked = kv::PrefixTree::kRoot;
  SavedKv saved;                // of a preempted sequence
  attention::RowMemory memory;  // what its flow carries from step to step; made when it is first admitted

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t prompt() const { return static_cast<std::int64_t>(request.prompt.size()); }
  // Prompt tokens are prefilled in chunks; from then on one token a step is decoded.
  bool prefilling() const { return stored < prompt(); }
  std::int64_t room() const { return std::max(prompt(), stored); }  // tokens that hold pages while it runs
};

}  // namespace vortex::engine
