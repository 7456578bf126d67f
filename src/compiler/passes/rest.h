// rest: what pages contribute that are not chosen becomes a logit and a value of the row, and a chosen set that is read
// here or by the caller gets a value of its own to be made from. A score confined to a set becomes the set of its best.
// Assumes a verified, canonical program.
//   with w = exp(logit − m) on pages outside the set and 0 on others, m the largest such logit:
//   rest_logit → m + log Σ w        rest_value → dot(w, value, over="page") / Σ w
#pragma once

#include "ir/program.h"

namespace vortex::compiler {

ir::Program gather_rest(const ir::Program&, const ir::Geometry&);

}  // namespace vortex::compiler
