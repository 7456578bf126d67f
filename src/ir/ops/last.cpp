// last: the pages at the end of the sequence.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_last() {
  OpDef op = elementwise_op("last", 3,
                            "The last pages of the sequence: those of index a where c pages in all leave at most b to "
                            "come. Written `vx.last(n)`.");
  op.tile = "from_end";
  op.infer = infer_set;
  op.scalar = [](Operands x, const Attributes&) { return x[0] >= x[2] - x[1] ? 1.0 : 0.0; };
  op.amount = Amount::pages;
  op.cuda = "($0 >= $2 - $1 ? 1.0f : 0.0f)";
  return op;
}

}  // namespace vortex::ir
