// split: one axis into two.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_split() {
  OpDef op;
  op.name = "split";
  op.doc =
      "Cuts an axis into runs of `size` consecutive elements: the axis keeps its name and counts the runs, the new "
      "axis `name` counts inside a run.";
  op.kind = OpKind::shape;
  op.arity = 1;
  op.attributes = {{.name = "axis", .kind = AttributeKind::axis, .doc = "the axis to cut"},
                   {.name = "name", .kind = AttributeKind::text, .doc = "the name of the new, inner axis"},
                   {.name = "size", .kind = AttributeKind::integer, .doc = "elements of a run"}};
  op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    Axis outer = required_axis(context, out, text_of(context.attributes, "axis"));
    std::int64_t size = integer_of(context.attributes, "size");
    std::optional<Extent> runs = divide(outer.extent, size);
    if (!runs) {
      throw UserError("", concat("split needs a size that divides \"", outer.name, "\" (", print(outer.extent), ")"),
                      concat(size), "choose a divisor");
    }
    for (Axis& axis : out.axes)
      if (axis.name == outer.name) axis.extent = *runs;
    out.axes.push_back({text_of(context.attributes, "name"), constant_extent(size)});
    return with_axes(out, out.axes);
  };
  op.move = [](const MoveContext& context, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    const std::string& outer = text_of(context.attributes, "axis");
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = out[axis_index(context.output, context.input.axes[i].name)];
    std::int64_t& index = in[axis_index(context.input, outer)];
    index = index * integer_of(context.attributes, "size") +
            out[axis_index(context.output, text_of(context.attributes, "name"))];
  };
  return op;
}

}  // namespace vortex::ir
