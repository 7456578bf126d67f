// min: the smallest along an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_min() {
  OpDef op = reduction_op(
      "min", "The smallest value along the axis, NaN passed over; inf over nothing, NaN when all are NaN.");
  op.homogeneous = true;
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double best = values.empty() ? kInfinity : values[0];
    for (double value : values) best = std::fmin(best, value);
    out[0] = best;
  };
  return op;
}

}  // namespace vortex::ir
