// norm: the Euclidean length along an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_norm() {
  OpDef op = reduction_op("norm", "sqrt(Σ a²) along the axis; 0 over nothing.");
  op.nonnegative = true;
  op.homogeneous = true;
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double sum = 0.0;
    for (double value : values) sum += value * value;
    out[0] = std::sqrt(sum);
  };
  return op;
}

}  // namespace vortex::ir
