// The roots of a program: one row each.
#include "ir/program.h"

#include <array>

namespace vortex::ir {

std::span<const RootDef> all_roots() {
  static constexpr std::array<RootDef, 2> roots = {{{"score", &Program::score}, {"budget", &Program::budget}}};
  return roots;
}

}  // namespace vortex::ir
