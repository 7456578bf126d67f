// What page_state and seq_state share, and param in part: axes that a flow declares, and reading a state.
#pragma once

#include "ir/ops/define.h"

namespace vortex::ir {

// "head, sub=4": an axis of a model by its name, or a name and a size, "x=dim" where it is that of another. UserError
// without a place.
std::vector<Axis> read_axes(std::string_view text);
OpDef state_op(std::string name, std::string doc, Domain::Kind);

}  // namespace vortex::ir
