#include "attention/arena.h"

#include <vortex/error.h>

#include <cstdlib>

#include "base/check.h"

namespace vortex::attention {

namespace {

std::int64_t size_of(ir::DType dtype) {
  VORTEX_CHECK(dtype == ir::DType::bf16 || dtype == ir::DType::f32, "a summary field of type ",
               static_cast<int>(dtype));
  return dtype == ir::DType::bf16 ? 2 : 4;
}

}  // namespace

void SummaryArena::Free::operator()(std::byte* memory) const { std::free(memory); }

std::int64_t SummaryArena::bytes_for(std::span<const codegen::FieldLayout> fields, std::int64_t layers,
                                     std::int64_t pages, std::int64_t kv_heads) {
  std::int64_t bytes = pages;  // the valid bits, a byte each
  for (const codegen::FieldLayout& field : fields)
    bytes += layers * pages * kv_heads * field.elements * size_of(field.dtype);
  return bytes;
}

SummaryArena::SummaryArena(std::span<const codegen::FieldLayout> fields, std::int64_t layers, std::int64_t pages,
                           std::int64_t kv_heads)
    : layers_(layers),
      pages_(pages),
      kv_heads_(kv_heads),
      bytes_(bytes_for(fields, layers, pages, kv_heads)),
      bytes_per_page_(0) {
  VORTEX_CHECK(layers > 0 && pages > 0 && kv_heads > 0, "layers ", layers, ", pages ", pages, ", kv_heads ", kv_heads);
  for (const codegen::FieldLayout& layout : fields) {
    VORTEX_CHECK(layout.elements > 0, "field ", layout.name, " of ", layout.elements, " elements");
    Field field{layout.elements, size_of(layout.dtype), nullptr};
    bytes_per_page_ += field.elements * field.element_bytes;
    std::int64_t bytes = layers * pages * kv_heads * field.elements * field.element_bytes;
    // calloc leaves untouched pages to the system: an arena costs memory only where sequences have been.
    field.memory.reset(static_cast<std::byte*>(std::calloc(static_cast<std::size_t>(bytes), 1)));
    if (!field.memory)
      throw MachineError(
          "summary arena",
          concat(bytes, " bytes for the field \"", layout.name, "\" of ", pages, " pages and ", layers, " layers"),
          "the system gave none", "use fewer pages, or a flow with smaller summaries");
    fields_.push_back(std::move(field));
  }
  valid_.assign(static_cast<std::size_t>(pages), 0);
}

FieldBlock SummaryArena::block(std::int64_t layer, std::int64_t field) const {
  const Field& store = fields_[static_cast<std::size_t>(field)];
  const std::int64_t first = layer * pages_ * kv_heads_ * store.elements * store.element_bytes;
  return {store.memory.get() + first, kv_heads_ * store.elements, store.elements, store.element_bytes};
}

}  // namespace vortex::attention
