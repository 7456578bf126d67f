// softmax: shares along an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_softmax() {
  OpDef op =
      along_op("softmax", "e^a / Σ e^a along the axis, with the maximum taken out first. NaN where all are −inf.");
  op.nonnegative = true;
  op.order_preserving = true;
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double top = -kInfinity, sum = 0.0;
    for (double value : values) top = std::fmax(top, value);
    for (std::size_t i = 0; i < values.size(); ++i) sum += out[i] = std::exp(values[i] - top);
    for (double& value : out) value /= sum;
  };
  return op;
}

}  // namespace vortex::ir
