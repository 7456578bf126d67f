// layer_count: how many layers the model has.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_layer_count() {
  OpDef op = source_op("layer_count", "Number of layers of the model.", Phase::score);
  op.of_sequence = true;
  op.nonnegative = true;
  op.source = [](const SourceContext& context, const Node&, Tensor& out) {
    out.data[0] = static_cast<double>(context.environment.layers);
  };
  return op;
}

}  // namespace vortex::ir
