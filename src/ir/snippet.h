// A budget given as the body of a CUDA C++ function: read as a restricted subset of C into nodes of the IR. It cannot
// loop for ever, touch memory or call anything but arithmetic. Whole numbers do not overflow, and real ones have the
// precision of the IR. Numbers in scope: cached_block_len, seq_tokens, seq_step, layer_index, layer_count, and those
// that the caller names.
#pragma once

#include <map>
#include <string>

#include "ir/op.h"

namespace vortex::ir {

// A number that a snippet may read; whole ones are `int` there, others `float`.
struct SnippetNumber {
  double value = 0;
  bool whole = true;
};

// The value that the snippet returns. UserError names line and column of the snippet: "quest.py:7, budget 2:14".
ValueId append_budget_snippet(Program&, const std::string& code, const std::map<std::string, SnippetNumber>& numbers,
                              const SourceLocation&);

}  // namespace vortex::ir
