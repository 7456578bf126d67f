// The words of the attention room: geometry, where K and V lie, and a flow that is loaded. Metadata only; owns no KV.
#pragma once

#include <vortex/export.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/float16.h"
#include "codegen/cpu/flow.h"
#include "ir/config.h"

namespace vortex::attention {

class SummaryArena;

// How K and V are stored. int8: a vector (a token's K or V of one KV head) is integers from −127 to 127 and a float
// scale, x = scale · integer; fp8: numbers of e4m3 (largest: 448) and a float scale, on a device alone. A token is
// rounded alone and once, so an open page is like any other, and what is stored does not depend on how tokens came.
enum class KvType : std::uint8_t { bfloat16, int8, fp8 };
VORTEX_API const char* name_of(KvType);                 // "bf16", "int8", "fp8"
VORTEX_API KvType kv_type_of(const std::string& name);  // UserError names the types there are

struct Geometry {
  std::int64_t layers = 1;
  std::int64_t kv_heads = 1;
  std::int64_t group = 1;       // query heads that share a KV head, 1 to 128
  std::int64_t head_dim = 64;   // channels of q and of a key: a multiple of 2, up to 1024
  std::int64_t page_size = 16;  // tokens of a physical page
  float scale = 1.0f;           // logit = scale · q·k
  // Channels of a value and of what a query head gets: a multiple of 2, up to 1024; 0: head_dim.
  std::int64_t value_dim = 0;
  // A value is the first channels of its key, as in MLA's latent: one vector is stored a token, and the plane of v is
  // that of k.
  bool values_in_keys = false;
  KvType kv_type = KvType::bfloat16;

  std::int64_t value_channels() const { return value_dim > 0 ? value_dim : head_dim; }
  std::int64_t stored_channels() const { return values_in_keys ? head_dim : head_dim + value_channels(); }  // a token's
  bool in_bytes() const { return kv_type != KvType::bfloat16; }  // a channel, with a scale for each vector
  std::int64_t element_bytes() const { return in_bytes() ? 1 : 2; }
  // Of one layer and KV head, read by attending.
  std::int64_t token_bytes() const {
    const std::int64_t scales = in_bytes() ? (values_in_keys ? 4 : 8) : 0;
    return stored_channels() * element_bytes() + scales;
  }

  // InternalError when a value is out of range.
  void validate() const;
};

// K or V of one layer: channels of (physical page p, KV head h, token t) begin at base + p·page_stride + h·head_stride
// + t·token_stride and are contiguous. Strides in elements. int8: its scale is scales[p·scale_page_stride +
// h·scale_head_stride + t].
struct Plane {
  void* base = nullptr;
  std::int64_t page_stride = 0, head_stride = 0, token_stride = 0;
  float* scales = nullptr;
  std::int64_t scale_page_stride = 0, scale_head_stride = 0;

  std::int64_t offset(std::int64_t page, std::int64_t head, std::int64_t token) const {
    return page * page_stride + head * head_stride + token * token_stride;
  }
  template <class T>
  T* at(std::int64_t page, std::int64_t head, std::int64_t token) const {
    return static_cast<T*>(base) + offset(page, head, token);
  }
  float* scale_at(std::int64_t page, std::int64_t head, std::int64_t token) const {
    return scales + page * scale_page_stride + head * scale_head_stride + token;
  }
};

// With values_in_keys v is k.
struct KvView {
  Plane k, v;
};

// A flow as a step uses it. The arena holds its summaries; null when the flow remembers nothing of a page.
struct LoadedFlow {
  std::shared_ptr<const codegen::CpuFlow> flow;  // null: the entry is free, no slice names it
  ir::FlowConfig config;
  SummaryArena* arena = nullptr;
  // Where layers have flows of their own: the index of each layer's among the loaded flows, [layers], this one's or one
  // of those right behind it; none: this one's everywhere.
  // What layers do among each other is in this one's config.
  std::vector<std::int32_t> by_layer = {};
  std::vector<std::int32_t> arena_layer = {};  // [layers] where a layer lies in the arena; none: in its order
  // States of all its layers' flows together, which those name from `first_state` on; none: those of the flow.
  std::vector<codegen::StateLayout> states = {};
  std::int64_t first_state = 0;

  std::span<const codegen::StateLayout> all_states() const {
    return states.empty() && flow ? flow->states() : std::span<const codegen::StateLayout>(states);
  }
};

}  // namespace vortex::attention
