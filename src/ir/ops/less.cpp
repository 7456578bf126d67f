// less: a < b.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_less() {
  OpDef op = elementwise_op("less", 2, "1 where a < b, else 0; 0 when one is NaN.");
  op.nonnegative = true;
  op.scalar = [](Operands x, const Attributes&) { return x[0] < x[1] ? 1.0 : 0.0; };
  op.cuda = "($0 < $1 ? 1.0f : 0.0f)";
  return op;
}

}  // namespace vortex::ir
