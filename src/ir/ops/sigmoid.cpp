// sigmoid: the logistic function.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_sigmoid() {
  OpDef op = elementwise_op("sigmoid", 1, "1 / (1 + e^−a).");
  op.order_preserving = true;
  op.nonnegative = true;
  op.scalar = [](Operands x, const Attributes&) { return 1.0 / (1.0 + std::exp(-x[0])); };
  op.cuda = "1.0f / (1.0f + expf(-$0))";
  return op;
}

}  // namespace vortex::ir
