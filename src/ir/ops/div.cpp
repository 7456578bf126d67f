// div: a / b.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_div() {
  OpDef op = elementwise_op("div", 2, "a / b as IEEE division: x / 0 is ±inf, 0 / 0 is NaN.");
  op.neutral = 1.0;
  op.homogeneous = true;
  op.scalar = [](Operands x, const Attributes&) { return x[0] / x[1]; };
  op.cuda = "$0 / $1";
  return op;
}

}  // namespace vortex::ir
