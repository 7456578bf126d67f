// How many pages a row attends where the flow computes it, as device code (budget.cuh).
#pragma once

#include <string>

#include "compiler/plan.h"

namespace vortex::codegen {

// Whether the flow's own budget counts: settings in numbers take its place.
bool computes_budget(const ir::Program&);
// UserError when an op of it has no CUDA implementation.
std::string print_budget(const compiler::Plan&);

}  // namespace vortex::codegen
