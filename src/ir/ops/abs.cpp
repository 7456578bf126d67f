// abs: the absolute value.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_abs() {
  OpDef op = elementwise_op("abs", 1, "|a|.");
  op.nonnegative = true;
  op.homogeneous = true;
  op.scalar = [](Operands x, const Attributes&) { return std::fabs(x[0]); };
  op.cuda = "fabsf($0)";
  return op;
}

}  // namespace vortex::ir
