// logsumexp: log Σ exp along an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_logsumexp() {
  OpDef op = reduction_op("logsumexp",
                          "log Σ e^a along the axis, with the maximum taken out first; −inf over nothing and where all "
                          "are −inf, NaN where all are NaN.");
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double top = values.empty() ? -kInfinity : values[0];
    for (double value : values) top = std::fmax(top, value);
    if (std::isinf(top)) {
      out[0] = top;
      return;
    }
    double sum = 0.0;
    for (double value : values) sum += std::exp(value - top);
    out[0] = top + std::log(sum);
  };
  return op;
}

}  // namespace vortex::ir
