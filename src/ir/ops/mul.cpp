// mul: a · b.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_mul() {
  OpDef op = elementwise_op("mul", 2, "a · b.");
  op.commutative = true;
  op.neutral = 1.0;
  op.homogeneous = true;
  op.scalar = [](Operands x, const Attributes&) { return x[0] * x[1]; };
  op.cuda = "$0 * $1";
  return op;
}

}  // namespace vortex::ir
