// minimum: the smaller of two values.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_minimum() {
  OpDef op = elementwise_op("minimum", 2, "The smaller of a and b; when one is NaN, the other.");
  op.commutative = true;
  op.scalar = [](Operands x, const Attributes&) { return std::fmin(x[0], x[1]); };
  op.cuda = "fminf($0, $1)";
  return op;
}

}  // namespace vortex::ir
