// What a model calls once a layer, and what the engine prepares for it once a step. Knows no pool and no model.
#pragma once

#include <cstdint>
#include <span>

namespace vortex::attention {

class RowMemory;

// One sequence of a step. Its tokens are consecutive rows of the step's flat token array.
struct Slice {
  std::int32_t first_token = 0;  // row of its first token in the step
  std::int32_t token_count = 1;  // 1: decode, or a chunk of one token; more: a prefill chunk
  std::int32_t context = 0;      // tokens whose KV is stored before this step
  const std::int32_t* page_table =
      nullptr;  // [page_count] physical page of each logical page; holds context + token_count tokens
  std::int32_t page_count = 0;
  std::int32_t flow = -1;       // loaded flow that selects its pages; -1: full attention
  bool sparse = false;          // decode through the flow; prefill chunks stay dense
  bool prompt = false;          // its tokens are a prompt's, be it one
  std::int64_t step = 0;        // seq.step: decode steps this sequence has made
  RowMemory* memory = nullptr;  // of a sparse slice whose flow carries something from step to step; has room for it
};

// The attention of one step, bound to a batch of slices, a KV pool and the loaded flows.
class LayerAttention {
 public:
  virtual ~LayerAttention() = default;
  // Appends k and v to the pool, summarizes the pages this step finished, and attends.
  // float32: q [tokens, kv_heads · group, head_dim], k [tokens, kv_heads, head_dim], v [tokens, kv_heads, value_dim],
  // out [tokens, kv_heads · group, value_dim]; v is null where values lie in the keys. q and k after QK-norm and RoPE,
  // q not yet multiplied by the softmax scale. `out` may be q where value_dim is head_dim.
  virtual void run(std::int32_t layer, const float* q, const float* k, const float* v, float* out) = 0;
};

}  // namespace vortex::attention
