// Stores new K and V in the type of the pool, and summarizes the flow pages they finish.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/arena.h"
#include "attention/cpu/memory.h"
#include "attention/layer.h"
#include "attention/types.h"
#include "base/thread_pool.h"

namespace vortex::attention {

// k: [tokens of the step, kv_heads, head_dim], v: [.., value_dim], not read where values lie in the keys.
void append_tokens(const Geometry&, const KvView&, std::span<const Slice>, const float* k, const float* v, ThreadPool&);

// One full page of a flow, or a group of so many, to be summarized for every KV head.
struct FullPage {
  const codegen::CpuFlow* flow = nullptr;
  const FieldBlock* fields = nullptr;      // [flow->fields()] of the layer
  const std::int32_t* physical = nullptr;  // its physical pages in order; the last one holds the summary
  std::int32_t tokens = 0;                 // pages · page_size of the flow
  std::int32_t pages = 1;
};

class Summarizer {
 public:
  void run(const Geometry&, const KvView&, std::span<const FullPage>, ThreadPool&, std::int64_t layer = 0);

 private:
  struct Worker {
    Scratch<const BFloat16*> tokens;  // [2, page_size]
    Scratch<BFloat16> widened;        // int8: the page's vectors
    Scratch<void*> outputs;
    Scratch<float> scratch;
  };
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace vortex::attention
