// neg: -a.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_neg() {
  OpDef op = elementwise_op("neg", 1, "−a.");
  op.homogeneous = true;
  op.scalar = [](Operands x, const Attributes&) { return -x[0]; };
  op.cuda = "-$0";
  return op;
}

}  // namespace vortex::ir
