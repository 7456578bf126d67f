// low_frequency: the channels that RoPE turns slowest.
#include <cmath>

#include "ir/ops/define.h"

namespace vortex::ir {

namespace {

constexpr std::int64_t kParts = 64;  // a share is a whole number of these

std::int64_t parts_of(const Attributes& attributes) { return std::llround(number_of(attributes, "share") * kParts); }

}  // namespace

OpDef define_low_frequency() {
  OpDef op;
  op.name = "low_frequency";
  op.doc =
      "The share of the channels that RoPE turns slowest, the part of a key that means the same from far away. Channel "
      "i "
      "and channel i + size/2 are one pair, and pairs turn slower as i grows (HF order), so of n = share · size "
      "channels ⌊n/2⌋ are the last ones of the first half of the axis and the others the last ones of the axis. On "
      "MLA, "
      "slice the RoPE channels out first.";
  op.kind = OpKind::shape;
  op.arity = 1;
  op.attributes = {
      {.name = "axis", .kind = AttributeKind::axis, .doc = "the axis of channels"},
      {.name = "share", .kind = AttributeKind::number, .doc = "channels kept of all, in 64ths, at most 1"}};
  op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    const Axis cut = required_axis(context, out, text_of(context.attributes, "axis"));
    const double share = number_of(context.attributes, "share");
    if (!(share > 0 && share <= 1) || share * kParts != std::floor(share * kParts)) {
      throw UserError("", "low_frequency needs a share above 0, at most 1, in 64ths", concat("share ", share),
                      "say 0.5 for half of the channels");
    }
    std::optional<Extent> kept = multiply(cut.extent, constant_extent(parts_of(context.attributes)));
    if (kept) kept = divide(*kept, kParts);
    if (!kept) {
      throw UserError("",
                      concat("low_frequency needs a share that leaves whole channels of \"", cut.name, "\" (",
                             print(cut.extent), ")"),
                      concat("share ", share), "choose another share");
    }
    for (Axis& axis : out.axes)
      if (axis.name == cut.name) axis.extent = *kept;
    return out;
  };
  op.move = [](const MoveContext& context, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = out[i];
    const std::size_t axis = axis_index(context.input, text_of(context.attributes, "axis"));
    const std::int64_t size = context.input_shape[axis], kept = size * parts_of(context.attributes) / kParts;
    in[axis] += in[axis] < kept / 2 ? size / 2 - kept / 2 : size - kept;
  };
  return op;
}

}  // namespace vortex::ir
