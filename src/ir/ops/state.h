// What page_state and seq_state share: the axes of a state, and reading it.
#pragma once

#include "ir/ops/define.h"

namespace vortex::ir {

OpDef state_op(std::string name, std::string doc, Domain::Kind);

}  // namespace vortex::ir
