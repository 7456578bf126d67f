// dot: a contraction by name.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_dot() {
  OpDef op;
  op.name = op.tile = "dot";
  op.doc =
      "Σ a·b over an axis that both have; other axes are kept and broadcast by name. The same as (a * b).sum(over). "
      "Over \"page\" both differ from page to page.";
  op.kind = OpKind::contraction;
  op.arity = 2;
  op.attributes = {{.name = "over", .kind = AttributeKind::axis, .doc = "the shared axis that disappears"}};
  op.commutative = true;
  op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    const std::string& over = text_of(context.attributes, "over");
    if (over != "page")
      for (const Type& input : context.inputs) required_axis(context, input, over);
    Type out = infer_elementwise(context);
    if (over == "page") {
      for (const Type& input : context.inputs)
        if (!input.domain.has_instances())
          throw UserError("", "dot over \"page\" takes two values that differ from page to page", print(input),
                          "multiply by it after a sum over \"page\"");
      out.domain = {Domain::Kind::row};
    }
    std::erase_if(out.axes, [&](const Axis& axis) { return axis.name == over; });
    return out;
  };
  return op;
}

}  // namespace vortex::ir
