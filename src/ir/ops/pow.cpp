// pow: a to the power b.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_pow() {
  OpDef op = elementwise_op(
      "pow", 2, "a to the power b, as in IEEE 754: pow(x, 0) is 1, NaN for a negative a and a fractional b.");
  op.neutral = 1.0;
  op.scalar = [](Operands x, const Attributes&) { return std::pow(x[0], x[1]); };
  op.cuda = "powf($0, $1)";
  return op;
}

}  // namespace vortex::ir
