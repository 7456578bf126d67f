// The makers of the architectures, one file each; registry.cpp has a row for every one.
#pragma once

#include "models/grouped_query.h"
#include "models/model.h"

namespace vortex::models {

// Decoders of grouped-query attention and a dense feed-forward block differ in these alone, on the CPU and on a GPU.
inline constexpr GroupedQueryOptions kLlama{}, kQwen2{.qkv_bias = true}, kQwen3{.qk_norm = true};

std::unique_ptr<Model> make_deepseek(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_llama(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_qwen2(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_qwen3(const ModelConfig&, const WeightSource&, ThreadPool&);
std::unique_ptr<Model> make_qwen3_moe(const ModelConfig&, const WeightSource&, ThreadPool&);

}  // namespace vortex::models
