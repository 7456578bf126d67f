// One request on its way through the engine.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/runner.h"
#include "kv/tree.h"

namespace vortex::engine {

struct Sequence {
  std::int64_t id = 0;
  Request request;
  std::vector<std::int32_t> tokens;  // prompt and answer
  kv::PageTable table;               // pages for all of `stored`, and for the whole prompt from admission on
  std::int64_t stored = 0;           // tokens whose KV is computed, by steps that run as well
  std::int64_t decode_steps = 0;
  // Tokens that steps on their way choose for it, and the row of the last of these steps that does.
  std::int32_t awaited = 0, row = -1;
  kv::PrefixTree::NodeId locked = kv::PrefixTree::kRoot;
  SavedKv saved;                // of a preempted sequence
  attention::RowMemory memory;  // what its flow carries from step to step; made when it is first admitted

  std::int64_t size() const { return static_cast<std::int64_t>(tokens.size()); }
  std::int64_t prompt() const { return static_cast<std::int64_t>(request.prompt.size()); }
  // Prompt tokens are prefilled in chunks; from then on one token a step is decoded.
  bool prefilling() const { return stored < prompt(); }
  // With the tokens that are awaited it has all it may have in a context of so many.
  bool is_full(std::int64_t context) const {
    return size() + awaited - prompt() >= std::min(request.max_new_tokens, context - prompt());
  }
  std::int64_t room() const { return std::max(prompt(), stored); }  // tokens that hold pages while it runs
};

}  // namespace vortex::engine
