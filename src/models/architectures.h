// The makers of the architectures, one file each; registry.cpp has a row for every one.
#pragma once

#include "models/model.h"

namespace vortex::models {

std::unique_ptr<Model> make_deepseek(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_llama(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_qwen2(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_qwen3(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_qwen3_moe(const ModelConfig&, const WeightSource&, ThreadPool&);

}  // namespace vortex::models
