// first: the pages at the start of the sequence.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_first() {
  OpDef op =
      elementwise_op("first", 2, "The first pages of the sequence: those of index a below b. Written `vx.first(n)`.");
  op.tile = "less";
  op.infer = infer_set;
  op.scalar = [](Operands x, const Attributes&) { return x[0] < x[1] ? 1.0 : 0.0; };
  op.amount = Amount::pages;
  op.cuda = "($0 < $1 ? 1.0f : 0.0f)";
  return op;
}

}  // namespace vortex::ir
