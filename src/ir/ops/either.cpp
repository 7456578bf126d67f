// either: union of two sets.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_either() {
  OpDef op = elementwise_op("either", 2, "The pages of a, of b, or of both. Written `a | b`.");
  op.tile = "maximum";
  op.takes_sets = op.commutative = true;
  op.infer = infer_set;
  op.scalar = [](Operands x, const Attributes&) { return x[0] != 0.0 || x[1] != 0.0 ? 1.0 : 0.0; };
  op.cuda = "fmaxf($0, $1)";
  return op;
}

}  // namespace vortex::ir
