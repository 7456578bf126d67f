// mean: the average over an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_mean() {
  OpDef op = reduction_op("mean", "Σ over the axis divided by its size; 0 over nothing.");
  op.homogeneous = true;
  op.up_to_scale = "sum";
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double sum = 0.0;
    for (double value : values) sum += value;
    out[0] = values.empty() ? 0.0 : sum / static_cast<double>(values.size());
  };
  return op;
}

}  // namespace vortex::ir
