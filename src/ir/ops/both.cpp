// both: the pages that two sets share.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_both() {
  OpDef op = elementwise_op("both", 2, "The pages that are in a and in b. Written `a & b`.");
  op.tile = "minimum";
  op.takes_sets = op.commutative = true;
  op.infer = infer_set;
  op.scalar = [](Operands x, const Attributes&) { return x[0] != 0.0 && x[1] != 0.0 ? 1.0 : 0.0; };
  op.cuda = "fminf($0, $1)";
  return op;
}

}  // namespace vortex::ir
