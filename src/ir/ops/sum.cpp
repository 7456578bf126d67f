// sum: Σ over an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_sum() {
  OpDef op = reduction_op("sum", "Σ over the axis; 0 over nothing.");
  op.homogeneous = true;
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double sum = 0.0;
    for (double value : values) sum += value;
    out[0] = sum;
  };
  return op;
}

}  // namespace vortex::ir
