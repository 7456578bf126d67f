// maximum: the larger of two values.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_maximum() {
  OpDef op = elementwise_op("maximum", 2, "The larger of a and b; when one is NaN, the other.");
  op.commutative = true;
  op.scalar = [](Operands x, const Attributes&) { return std::fmax(x[0], x[1]); };
  op.cuda = "fmaxf($0, $1)";
  return op;
}

}  // namespace vortex::ir
