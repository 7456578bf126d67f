// rename: an axis under another name.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_rename() {
  OpDef op;
  op.name = "rename";
  op.doc =
      "The same values with the axis `axis` named `to`, so that it meets (or no longer meets) an axis of another "
      "value.";
  op.kind = OpKind::shape;
  op.arity = 1;
  op.attributes = {{.name = "axis", .kind = AttributeKind::axis, .doc = "the axis to rename"},
                   {.name = "to", .kind = AttributeKind::text, .doc = "its new name"}};
  op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    std::string name = required_axis(context, out, text_of(context.attributes, "axis")).name;
    for (Axis& axis : out.axes)
      if (axis.name == name) axis.name = text_of(context.attributes, "to");
    return with_axes(out, out.axes);
  };
  op.move = [](const MoveContext& context, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    const std::string& from = text_of(context.attributes, "axis");
    for (std::size_t i = 0; i < in.size(); ++i) {
      const std::string& name = context.input.axes[i].name;
      in[i] = out[axis_index(context.output, name == from ? text_of(context.attributes, "to") : name)];
    }
  };
  return op;
}

}  // namespace vortex::ir
