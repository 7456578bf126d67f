// layer_index: which layer this is.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_layer_index() {
  OpDef op = source_op("layer_index", "Index of the layer, from 0.", Phase::score);
  op.of_sequence = true;
  op.nonnegative = true;
  op.source = [](const SourceContext& context, const Node&, Tensor& out) {
    out.data[0] = static_cast<double>(context.environment.layer);
  };
  return op;
}

}  // namespace vortex::ir
