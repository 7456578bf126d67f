// contract: sums over an inner axis become contractions of a row value with a page value, so that what depends on the
// row alone is computed once a row and a page costs one pass over its summaries. Assumes a verified program, after
// `facts` and `split`.
//   Σ (a + b − c)        → Σ a + Σ b − Σ c           when every part becomes a contraction
//   Σ r·s·p              → dot(r·s, p)               r, s the same on all pages; p a value of the page
//   Σ r·x with r, x free of the axis: moved out
//   dot(r, p) + dot(s, p) → dot(r + s, p)
// Real-number algebra: the order of rounding changes, the value does not.
#pragma once

#include "ir/program.h"

namespace vortex::compiler {

ir::Program make_contractions(const ir::Program&, const ir::Geometry&);

}  // namespace vortex::compiler
