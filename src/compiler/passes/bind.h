// bind: the flow meets a model, and the tokens of a page are a number. Assumes a verified program. Checks that every
// axis has a whole size, and uses sizes of one: over an axis of one element a reduction moves inside a softmax over
// "page", which `canonicalize` then drops from the score, since it cannot change the order of the pages.
#pragma once

#include "ir/program.h"

namespace vortex::compiler {

// UserError when the flow does not fit the geometry.
ir::Program bind(const ir::Program&, const ir::Geometry&);

}  // namespace vortex::compiler
