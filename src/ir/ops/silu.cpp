// silu: a · sigmoid(a).
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_silu() {
  OpDef op = elementwise_op("silu", 1, "a / (1 + e^−a).");
  op.scalar = [](Operands x, const Attributes&) { return x[0] / (1.0 + std::exp(-x[0])); };
  op.cuda = "$0 / (1.0f + expf(-$0))";
  return op;
}

}  // namespace vortex::ir
