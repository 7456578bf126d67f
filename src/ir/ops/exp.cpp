// exp: the exponential.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_exp() {
  OpDef op = elementwise_op("exp", 1, "e to the power a.");
  op.order_preserving = true;
  op.nonnegative = true;
  op.scalar = [](Operands x, const Attributes&) { return std::exp(x[0]); };
  op.cuda = "expf($0)";
  return op;
}

}  // namespace vortex::ir
