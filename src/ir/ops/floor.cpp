// floor: the next whole number below.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_floor() {
  OpDef op = elementwise_op("floor", 1, "The largest whole number that is not above a.");
  op.scalar = [](Operands x, const Attributes&) { return std::floor(x[0]); };
  op.cuda = "floorf($0)";
  return op;
}

}  // namespace vortex::ir
