// split: ops along "page" become reductions over "page" and elementwise work on each page, which is what stages can
// hold. Assumes a verified program. cumsum stays whole.
//   softmax(x)     → e / Σ e       with e = exp(x − max x)
//   normalize(x)   → x / Σ x
//   logsumexp(x)   → m + log Σ exp(x − m)   with m = max x, 0 where that is infinite
#pragma once

#include "ir/program.h"

namespace vortex::compiler {

ir::Program split_along_page(const ir::Program&, const ir::Geometry&);

}  // namespace vortex::compiler
