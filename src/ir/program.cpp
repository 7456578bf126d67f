// The roots of a program: one row each.
#include "ir/program.h"

#include <algorithm>
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

bool LayerFlow::operator==(const LayerFlow& other) const { return layers == other.layers && *flow == *other.flow; }

const Program& flow_at(const Program& program, std::int64_t layer) {
  for (const LayerFlow& other : program.others)
    if (std::binary_search(other.layers.begin(), other.layers.end(), layer)) return *other.flow;
  return program;
}

}  // namespace vortex::ir
