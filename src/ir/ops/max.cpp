// max: the largest along an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_max() {
  OpDef op = reduction_op(
      "max", "The largest value along the axis, NaN passed over; −inf over nothing, NaN when all are NaN.");
  op.homogeneous = true;
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double best = values.empty() ? -kInfinity : values[0];
    for (double value : values) best = std::fmax(best, value);
    out[0] = best;
  };
  return op;
}

}  // namespace vortex::ir
