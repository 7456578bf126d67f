// The summaries of one loaded flow: for each field an array [layers][physical page, kv_head, elements], and a valid bit
// a physical page. The summary of a flow page lies at its last physical page. Knows no pool: whoever gives a physical
// page new contents outside a step (copy, restore from the host) calls invalidate; a step does it for the pages it
// writes. One thread at a time changes bits.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "codegen/cpu/flow.h"

namespace vortex::attention {

// One field of one layer: elements of (physical page p, KV head h) begin at base + (p·page_stride + h·head_stride)
// elements.
struct FieldBlock {
  std::byte* base = nullptr;
  std::int64_t page_stride = 0, head_stride = 0;  // in elements
  std::int64_t element_bytes = 2;

  void* at(std::int64_t page, std::int64_t head) const {
    return base + (page * page_stride + head * head_stride) * element_bytes;
  }
  codegen::FieldView of_head(std::int64_t head) const { return {at(0, head), page_stride}; }
};

class SummaryArena {
 public:
  // MachineError when the memory is not there.
  SummaryArena(std::span<const codegen::FieldLayout> fields, std::int64_t layers, std::int64_t pages,
               std::int64_t kv_heads);

  // Bytes such an arena takes, to be asked before it is made.
  static std::int64_t bytes_for(std::span<const codegen::FieldLayout> fields, std::int64_t layers, std::int64_t pages,
                                std::int64_t kv_heads);

  std::int64_t bytes() const { return bytes_; }
  std::int64_t pages() const { return pages_; }
  std::int64_t fields() const { return static_cast<std::int64_t>(fields_.size()); }
  std::int64_t bytes_per_page() const { return bytes_per_page_; }  // of one layer and KV head, all fields

  FieldBlock block(std::int64_t layer, std::int64_t field) const;

  bool is_valid(std::int32_t page) const { return valid_[static_cast<std::size_t>(page)] != 0; }
  void validate(std::int32_t page) { valid_[static_cast<std::size_t>(page)] = 1; }
  void invalidate(std::int32_t page) { valid_[static_cast<std::size_t>(page)] = 0; }

 private:
  struct Unmap {
    std::size_t bytes;
    void operator()(std::byte* memory) const;
  };
  struct Field {
    std::int64_t elements, element_bytes;
    std::unique_ptr<std::byte, Unmap> memory;
  };
  std::vector<Field> fields_;
  std::vector<std::uint8_t> valid_;  // [pages]
  std::int64_t layers_, pages_, kv_heads_, bytes_, bytes_per_page_;
};

}  // namespace vortex::attention
