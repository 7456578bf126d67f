// The Llama architecture: pre-norm, RoPE in halves, grouped-query attention, SwiGLU. Also SmolLM2's.
#pragma once

#include "models/model.h"

namespace vortex::models {

std::unique_ptr<Model> make_llama(const ModelConfig&, const Weights&, ThreadPool&);

}  // namespace vortex::models
