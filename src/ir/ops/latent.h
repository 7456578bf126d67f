// What nope and rope share: a part of the channels of a latent (MLA), which on other models is all of them.
#pragma once

#include "ir/ops/define.h"

namespace vortex::ir {

// All but what it infers and moves.
OpDef latent_channels(std::string name, std::string doc);
// The axis of channels, which `op` takes whole, becomes as long as `part` says. UserError.
Type cut_channels(const InferContext&, std::string_view op, Extent::Symbol part);

}  // namespace vortex::ir
