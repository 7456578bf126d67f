// add: a + b.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_add() {
  OpDef op = elementwise_op("add", 2, "a + b.");
  op.commutative = true;
  op.neutral = 0.0;
  op.shifts = true;
  op.scalar = [](Operands x, const Attributes&) { return x[0] + x[1]; };
  op.cuda = "$0 + $1";
  return op;
}

}  // namespace vortex::ir
