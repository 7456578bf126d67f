// rsqrt: one over the square root.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_rsqrt() {
  OpDef op = elementwise_op("rsqrt", 1, "1 / sqrt(a); inf at 0, NaN below.");
  op.nonnegative = true;
  op.homogeneous = true;
  op.scalar = [](Operands x, const Attributes&) { return 1.0 / std::sqrt(x[0]); };
  op.cuda = "rsqrtf($0)";
  return op;
}

}  // namespace vortex::ir
