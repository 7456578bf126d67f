// How many pages a row attends: the budget that the settings give in numbers, or what the flow computes of its sequence
// and layer. Known before any row is scored; the same for all rows of a sequence.
#pragma once

#include "ir/interpret.h"

namespace vortex::ir {

// Settings that give a budget. They take the place of a budget that the flow computes.
bool budget_in_numbers(const FlowConfig&);

class RowRule {
 public:
  explicit RowRule(const Program& verified);

  bool chooses() const { return chooses_; }
  bool computed() const { return !nodes_.empty(); }  // the flow computes its budget, unless settings give it

  bool open(const FlowConfig& config) const;   // the flow's set alone says how many pages a row attends
  bool by_layer() const { return by_layer_; }  // may differ from layer to layer
  bool by_step() const { return by_step_; }    // may differ between sequences of one length
  // Of a sequence of environment.tokens tokens. A computed budget is rounded down; NaN asks for the pinned pages only.
  RowPages operator()(const FlowConfig&, const Environment&) const;

 private:
  bool chooses_, open_, by_layer_ = false, by_step_ = false;
  std::vector<Node> nodes_;  // of the budget alone, operands first; the last one is the budget
};

// The most pages that a row of at most so many tokens attends, as far as the program says.
std::int64_t most_attended(const Program&, const RowRule&, const FlowConfig&, const Environment&);

}  // namespace vortex::ir
