// rope: the channels of a latent that hold the position.
#include "ir/ops/latent.h"

namespace vortex::ir {

OpDef define_rope() {
  OpDef op = latent_channels(
      "rope",
      "The channels that RoPE turns: of a latent (MLA) the last ones, those that a value has not; on other models all "
      "channels.");
  op.infer = [](const InferContext& context) { return cut_channels(context, "rope", Extent::Symbol::rope_dim); };
  op.move = [](const MoveContext& context, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    const std::size_t axis = axis_index(context.input, text_of(context.attributes, "axis"));
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = out[i];
    in[axis] += context.input_shape[axis] - context.output_shape[axis];
  };
  return op;
}

}  // namespace vortex::ir
