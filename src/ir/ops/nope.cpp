// nope: the channels of a latent that hold no position.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_nope() {
  OpDef op;
  op.name = "nope";
  op.doc =
      "The channels that RoPE leaves alone: of a latent (MLA) the first ones, as many as a value has, which are the "
      "compressed keys and values; on other models all channels.";
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
      throw UserError("", concat("nope takes the channels of q or page.k, whole"),
                      concat("\"", channels.name, "\" of ", print(channels.extent)), "take it before they are cut");
    for (Axis& axis : out.axes)
      if (axis.name == channels.name) axis.extent.symbol = Extent::Symbol::value_dim;
    return out;
  };
  op.move = [](const MoveContext&, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = out[i];
  };
  return op;
}

}  // namespace vortex::ir
