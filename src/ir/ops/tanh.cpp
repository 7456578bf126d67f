// tanh: the hyperbolic tangent.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_tanh() {
  OpDef op = elementwise_op("tanh", 1, "Hyperbolic tangent.");
  op.order_preserving = true;
  op.scalar = [](Operands x, const Attributes&) { return std::tanh(x[0]); };
  op.cuda = "tanhf($0)";
  return op;
}

}  // namespace vortex::ir
