// Scratch buffers get their places: buffers whose lives do not overlap share one.
#pragma once

#include "codegen/cpu/program.h"

namespace vortex::codegen {

// Adds the place of each operand's buffer to its offset. sizes: elements of each buffer. Returns the elements in all.
// An instruction's output never shares a place with its inputs.
std::int64_t place_scratch(Instructions&, const std::vector<std::int64_t>& sizes);

}  // namespace vortex::codegen
