// slice: a run of elements of an axis.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_slice() {
  OpDef op;
  op.name = "slice";
  op.doc =
      "Elements start … stop−1 of an axis; the axis keeps its name. `stop` must not pass the end, which is checked "
      "when the flow meets a model.";
  op.kind = OpKind::shape;
  op.arity = 1;
  op.attributes = {{.name = "axis", .kind = AttributeKind::axis, .doc = "the axis to cut"},
                   {.name = "start", .kind = AttributeKind::integer, .doc = "the first element, from 0"},
                   {.name = "stop", .kind = AttributeKind::integer, .doc = "one past the last element"}};
  op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    Axis cut = required_axis(context, out, text_of(context.attributes, "axis"));
    std::int64_t start = integer_of(context.attributes, "start"), stop = integer_of(context.attributes, "stop");
    bool fits = cut.extent.symbol != Extent::Symbol::one || stop <= cut.extent.numerator;
    if (start < 0 || stop <= start || stop > kMaxExtent || !fits) {
      throw UserError("",
                      concat("slice needs 0 <= start < stop <= size of \"", cut.name, "\" (", print(cut.extent), ")"),
                      concat("start ", start, ", stop ", stop), "choose a run inside the axis");
    }
    for (Axis& axis : out.axes)
      if (axis.name == cut.name) axis.extent = constant_extent(stop - start);
    return out;
  };
  op.move = [](const MoveContext& context, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = out[i];
    in[axis_index(context.input, text_of(context.attributes, "axis"))] += integer_of(context.attributes, "start");
  };
  return op;
}

}  // namespace vortex::ir
