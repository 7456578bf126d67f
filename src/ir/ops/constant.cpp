// constant: a number written in the flow.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_constant() {
  OpDef op = source_op("constant", "A number. Every plain number in an expression becomes one.", Phase::any);
  op.of_sequence = true;
  op.attributes = {{.name = "value", .kind = AttributeKind::number, .doc = "the number; not NaN"}};
  op.source = [](const SourceContext&, const Node& node, Tensor& out) {
    out.data[0] = number_of(node.attributes, "value");
  };
  return op;
}

}  // namespace vortex::ir
