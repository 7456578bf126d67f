// dot: a contraction by name.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_dot() {
  OpDef op;
  op.name = op.tile = "dot";
  op.doc =
      "Σ a·b over an axis that both have; other axes are kept and broadcast by name. The same as (a * b).sum(over).";
  op.kind = OpKind::contraction;
  op.arity = 2;
  op.attributes = {{.name = "over", .kind = AttributeKind::axis, .doc = "the shared axis that disappears"}};
  op.commutative = true;
  op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    const std::string& over = text_of(context.attributes, "over");
    if (over == "page")
      throw UserError("", "dot runs over an axis of its values", "\"page\"", "write (a * b).sum(\"page\")");
    for (const Type& input : context.inputs) required_axis(context, input, over);
    Type out = infer_elementwise(context);
    std::erase_if(out.axes, [&](const Axis& axis) { return axis.name == over; });
    return out;
  };
  return op;
}

}  // namespace vortex::ir
