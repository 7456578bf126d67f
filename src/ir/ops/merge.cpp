// merge: two axes into one.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_merge() {
  OpDef op;
  op.name = "merge";
  op.doc =
      "Joins two axes into one under the name of the first: element (i, j) becomes i · size(second) + j. Undoes split.";
  op.kind = OpKind::shape;
  op.arity = 1;
  op.attributes = {{.name = "axis", .kind = AttributeKind::axis, .doc = "the outer axis; its name stays"},
                   {.name = "inner", .kind = AttributeKind::axis, .doc = "the inner axis; its name goes"}};
  op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    Axis outer = required_axis(context, out, text_of(context.attributes, "axis"));
    Axis inner = required_axis(context, out, text_of(context.attributes, "inner"));
    std::optional<Extent> size = multiply(outer.extent, inner.extent);
    if (outer.name == inner.name || !size) {
      throw UserError("", "merge needs two axes whose sizes multiply to one known size",
                      concat("\"", outer.name, "\" (", print(outer.extent), ") and \"", inner.name, "\" (",
                             print(inner.extent), ")"),
                      "merge axes of which at least one has a constant size");
    }
    std::erase_if(out.axes, [&](const Axis& axis) { return axis.name == inner.name; });
    for (Axis& axis : out.axes)
      if (axis.name == outer.name) axis.extent = *size;
    return out;
  };
  op.move = [](const MoveContext& context, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    const std::string& outer = text_of(context.attributes, "axis");
    std::size_t inner = axis_index(context.input, text_of(context.attributes, "inner"));
    std::int64_t merged = out[axis_index(context.output, outer)], size = context.input_shape[inner];
    for (std::size_t i = 0; i < in.size(); ++i) {
      const std::string& name = context.input.axes[i].name;
      in[i] = i == inner ? merged % size : name == outer ? merged / size : out[axis_index(context.output, name)];
    }
  };
  return op;
}

}  // namespace vortex::ir
