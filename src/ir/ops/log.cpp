// log: the natural logarithm.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_log() {
  OpDef op = elementwise_op("log", 1, "Natural logarithm; −inf at 0, NaN below.");
  op.scalar = [](Operands x, const Attributes&) { return std::log(x[0]); };
  op.cuda = "logf($0)";
  return op;
}

}  // namespace vortex::ir
