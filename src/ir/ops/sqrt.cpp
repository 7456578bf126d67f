// sqrt: the square root.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_sqrt() {
  OpDef op = elementwise_op("sqrt", 1, "Square root; NaN below 0.");
  op.nonnegative = true;
  op.homogeneous = true;
  op.scalar = [](Operands x, const Attributes&) { return std::sqrt(x[0]); };
  op.cuda = "sqrtf($0)";
  return op;
}

}  // namespace vortex::ir
