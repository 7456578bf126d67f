// A model whose queries, keys and values were recorded from another: it replays them through whatever attends, so that
// a flow's choice of pages and the outputs of attention are had without the other model's weights.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "models/model.h"

namespace vortex::models {

// What the recorded model gave to attention, one row a recorded token, in every layer. Values lie in the keys: v is
// empty.
struct Recording {
  std::int64_t rows = 0;
  std::vector<float> q;  // [rows, layers, heads, head_dim], after QK-norm and RoPE, not multiplied by the softmax scale
  std::vector<float> k;  // [rows, layers, kv_heads, head_dim]
  std::vector<float> v;  // [rows, layers, kv_heads, value_dim]
};

// Its tokens are the rows, from 0; its "logits" are what attention gave, [layers, heads, value_dim], then zeros up to
// the vocabulary, which is the larger of their count and the rows. The geometry is `of`'s. UserError when an array has
// another size than the geometry says.
std::unique_ptr<Model> make_replay(const ModelConfig& of, Recording);

}  // namespace vortex::models
