// A plan with its price as readable text: what each stage computes and what it reads and keeps.
#pragma once

#include <string>

#include "compiler/price.h"

namespace vortex::compiler {

// UserError as price.
std::string explain(const Plan&, const Workload&);

}  // namespace vortex::compiler
