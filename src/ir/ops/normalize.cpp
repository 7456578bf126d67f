// normalize: values over their sum.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_normalize() {
  OpDef op = along_op("normalize", "a / Σ a along the axis, as IEEE division.");
  op.axis = [](std::span<const double> values, std::span<double> out, const Attributes&) {
    double sum = 0.0;
    for (double value : values) sum += value;
    for (std::size_t i = 0; i < values.size(); ++i) out[i] = values[i] / sum;
  };
  return op;
}

}  // namespace vortex::ir
