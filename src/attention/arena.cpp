#include "attention/arena.h"

#include <sys/mman.h>
#include <vortex/error.h>

#include "base/check.h"

namespace vortex::attention {

namespace {

std::int64_t size_of(ir::DType dtype) {
  VORTEX_CHECK(dtype == ir::DType::bf16 || dtype == ir::DType::f32, "a summary field of type ",
               static_cast<int>(dtype));
  return dtype == ir::DType::bf16 ? 2 : 4;
}

}  // namespace

void SummaryArena::Unmap::operator()(std::byte* memory) const { munmap(memory, bytes); }

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
    Field field{layout.elements, size_of(layout.dtype), {}};
    bytes_per_page_ += field.elements * field.element_bytes;
    const std::size_t bytes =
        static_cast<std::size_t>(layers * pages * kv_heads * field.elements * field.element_bytes);
    // The system gives memory only where sequences have been, in large pages where it can: scoring reads far apart.
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
      throw MachineError(
          "summary arena",
          concat(bytes, " bytes for the field \"", layout.name, "\" of ", pages, " pages and ", layers, " layers"),
          "the system gave none", "use fewer pages, or a flow with smaller summaries");
    madvise(memory, bytes, MADV_HUGEPAGE);
    field.memory = std::unique_ptr<std::byte, Unmap>(static_cast<std::byte*>(memory), Unmap{bytes});
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
