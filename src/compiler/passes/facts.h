// facts: what is known of values without computing them, and the rewrite it permits. Assumes a verified program.
//   lo ≤ hi     of summaries that are the min and the max of one value over one axis (rounding keeps the order)
//   max(r·lo, r·hi) → relu(r)·hi − relu(−r)·lo        for r the same on all pages; min likewise with lo and hi swapped
#pragma once

#include "ir/program.h"

namespace vortex::compiler {

// a ≤ b on every page, element by element.
bool is_ordered(const ir::Program&, ir::ValueId a, ir::ValueId b);
// Never below zero.
bool is_nonnegative(const ir::Program&, ir::ValueId);

ir::Program use_facts(const ir::Program&, const ir::Geometry&);

}  // namespace vortex::compiler
