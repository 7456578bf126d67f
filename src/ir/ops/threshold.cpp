// threshold: pages above a number.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_threshold() {
  OpDef op = elementwise_op("threshold", 2, "The pages where a is at least b.");
  op.tile = "greater_equal";
  op.infer = infer_set;
  op.scalar = [](Operands x, const Attributes&) { return x[0] >= x[1] ? 1.0 : 0.0; };
  op.cuda = "($0 >= $1 ? 1.0f : 0.0f)";
  return op;
}

}  // namespace vortex::ir
