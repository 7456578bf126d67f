// where: a choice for every element.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_where() {
  OpDef op =
      elementwise_op("where", 3, "b where a is not zero, else c. NaN counts as not zero. a may be a set of pages.");
  op.condition = true;
  op.scalar = [](Operands x, const Attributes&) { return x[0] != 0.0 ? x[1] : x[2]; };
  op.cuda = "($0 != 0.0f ? $1 : $2)";
  return op;
}

}  // namespace vortex::ir
