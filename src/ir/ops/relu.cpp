// relu: nothing below zero.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_relu() {
  OpDef op = elementwise_op("relu", 1, "max(a, 0); 0 for NaN.");
  op.nonnegative = true;
  op.homogeneous = true;
  op.scalar = [](Operands x, const Attributes&) { return x[0] > 0.0 ? x[0] : 0.0; };
  op.cuda = "fmaxf($0, 0.0f)";
  return op;
}

}  // namespace vortex::ir
