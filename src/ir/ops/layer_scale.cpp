// layer_scale: the softmax scale.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_layer_scale() {
  OpDef op = source_op("layer_scale", "The softmax scale of the layer, which q is already multiplied by; above zero.",
                       Phase::score);
  op.of_sequence = true;
  op.nonnegative = true;
  op.source = [](const SourceContext& context, const Node&, Tensor& out) { out.data[0] = context.environment.scale; };
  return op;
}

}  // namespace vortex::ir
