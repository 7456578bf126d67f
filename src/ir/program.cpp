// The roots of a program: one row each.
#include "ir/program.h"

#include <array>

namespace vortex::ir {

std::span<const RootDef> all_roots() {
  static constexpr std::array<RootDef, 5> roots = {{{"score", &Program::score},
                                                    {"select", &Program::selection},
                                                    {"rest_logit", &Program::rest_logit},
                                                    {"rest_value", &Program::rest_value},
                                                    {"budget", &Program::budget}}};
  return roots;
}

}  // namespace vortex::ir
