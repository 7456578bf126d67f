// cumsum: running sums along an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_cumsum() {
  OpDef op = along_op(
      "cumsum",
      "Sum of this and all earlier elements along the axis; along \"page\", of this and all earlier candidates.");
  op.homogeneous = true;
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double sum = 0.0;
    for (std::size_t i = 0; i < values.size(); ++i) out[i] = sum += values[i];
  };
  return op;
}

}  // namespace vortex::ir
