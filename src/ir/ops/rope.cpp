// rope: the channels of a latent that hold the position.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_rope() {
  OpDef op;
  op.name = "rope";
  op.doc =
      "The channels that RoPE turns: of a latent (MLA) the last ones, those that a value has not; on other models all "
      "channels.";
  op.kind = OpKind::shape;
  op.arity = 1;
  op.attributes = {{.name = "axis",
                    .kind = AttributeKind::axis,
                    .required = false,
                    .fallback = std::string("dim"),
                    .doc = "the axis of channels, \"dim\" when not given"}};
  op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    const Axis channels = required_axis(context, out, text_of(context.attributes, "axis"));
    if (channels.extent != Extent{.symbol = Extent::Symbol::dim})
      throw UserError("", concat("rope takes the channels of q or page.k, whole"),
                      concat("\"", channels.name, "\" of ", print(channels.extent)), "take it before they are cut");
    for (Axis& axis : out.axes)
      if (axis.name == channels.name) axis.extent.symbol = Extent::Symbol::rope_dim;
    return out;
  };
  op.move = [](const MoveContext& context, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    const std::size_t axis = axis_index(context.input, text_of(context.attributes, "axis"));
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = out[i];
    in[axis] += context.input_shape[axis] - context.output_shape[axis];
  };
  return op;
}

}  // namespace vortex::ir
