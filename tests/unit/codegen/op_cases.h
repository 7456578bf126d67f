// One case list for the ops of the language, used by the tests of the CPU backend and by its timing. Each case is a
// flow that puts one op in one place: on pages, on rows, in a summary, over an inner axis or over "page".
#pragma once

#include <string>
#include <vector>

#include "ir/op.h"

namespace vortex::codegen {

struct OpCase {
  std::string name;  // "maximum, page and row"
  std::string op;
  ir::Program program;
};

std::vector<OpCase> op_cases();
// The program with random numbers for its parameters: for each of 30 layers and 2 KV heads.
ir::Program with_numbers(ir::Program, const ir::Geometry&);

// The ready flows, written out.
ir::Program centroid_flow();
ir::Program quest_flow();
ir::Program deviation_flow();
ir::Program oracle_flow();
ir::Program random_flow();

}  // namespace vortex::codegen
