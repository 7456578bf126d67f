// The Llama architecture: pre-norm, RoPE in halves, grouped-query attention, SwiGLU. Also SmolLM2's; Qwen2 is the same
// with biases on q, k and v.
#pragma once

#include "models/model.h"

namespace vortex::models {

std::unique_ptr<Model> make_llama(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_qwen2(const ModelConfig&, const WeightSource&, ThreadPool&);

}  // namespace vortex::models
