// nope: the channels of a latent that hold no position.
#include "ir/ops/latent.h"

namespace vortex::ir {

OpDef define_nope() {
  OpDef op = latent_channels(
      "nope",
      "The channels that RoPE leaves alone: of a latent (MLA) the first ones, as many as a value has, which are the "
      "compressed keys and values; on other models all channels.");
  op.infer = [](const InferContext& context) { return cut_channels(context, "nope", Extent::Symbol::value_dim); };
  op.move = [](const MoveContext&, std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = out[i];
  };
  return op;
}

}  // namespace vortex::ir
