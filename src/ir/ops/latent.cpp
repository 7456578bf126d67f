#include "ir/ops/latent.h"

namespace vortex::ir {

OpDef latent_channels(std::string name, std::string doc) {
  OpDef op;
  op.name = std::move(name);
  op.doc = std::move(doc);
  op.kind = OpKind::shape;
  op.arity = 1;
  op.attributes = {{.name = "axis",
                    .kind = AttributeKind::axis,
                    .required = false,
                    .fallback = std::string("dim"),
                    .doc = "the axis of channels, \"dim\" when not given"}};
  op.homogeneous = true;
  return op;
}

Type cut_channels(const InferContext& context, std::string_view op, Extent::Symbol part) {
  Type out = context.inputs[0];
  const Axis channels = required_axis(context, out, text_of(context.attributes, "axis"));
  if (channels.extent != Extent{.symbol = Extent::Symbol::dim})
    throw UserError("", concat(op, " takes the channels of q or page.k, whole"),
                    concat("\"", channels.name, "\" of ", print(channels.extent)), "take it before they are cut");
  for (Axis& axis : out.axes)
    if (axis.name == channels.name) axis.extent.symbol = part;
  return out;
}

}  // namespace vortex::ir
