// common: equal values become one, and what no root reads goes. Assumes a verified program; changes no arithmetic.
#pragma once

#include "ir/program.h"

namespace vortex::compiler {

ir::Program share_common(const ir::Program&, const ir::Geometry&);

}  // namespace vortex::compiler
