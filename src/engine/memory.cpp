#include "engine/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace vortex::engine {

namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}

void KvMemory::Free::operator()(std::byte* memory) const { std::free(memory); }

namespace {

// Vectors of one page in one layer, so that what follows them, scales and the next page, lies at a multiple of 4 bytes.
std::int64_t vector_bytes(const attention::Geometry& geometry) {
  const std::int64_t bytes =
      geometry.kv_heads * geometry.page_size * geometry.stored_channels() * geometry.element_bytes();
  return (bytes + 3) / 4 * 4;
}

std::int64_t vectors_of_token(const attention::Geometry& geometry) { return geometry.values_in_keys ? 1 : 2; }

std::int64_t layer_page_bytes_of(const attention::Geometry& geometry) {
  const std::int64_t scales = geometry.kv_heads * vectors_of_token(geometry) * geometry.page_size * 4;
  return vector_bytes(geometry) + (geometry.kv_type == attention::KvType::int8 ? scales : 0);
}

}  // namespace

std::int64_t KvMemory::page_bytes(const attention::Geometry& geometry) {
  return geometry.layers * layer_page_bytes_of(geometry);
}

KvMemory::KvMemory(const attention::Geometry& geometry, std::int64_t pages)
    : layers_(geometry.layers),
      page_bytes_(layer_page_bytes_of(geometry)),
      layer_bytes_(page_bytes_ * pages),
      bytes_(page_bytes(geometry) * pages) {
  std::size_t rounded = (static_cast<std::size_t>(bytes_) + kHugePage - 1) / kHugePage * kHugePage;
  memory_.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, rounded)));
  if (memory_ == nullptr)
    throw MachineError("engine", concat("memory for ", pages, " KV pages, ", bytes_, " bytes"), "the system refused it",
                       "lower `pages`, `memory_bytes` or `max_context`");
  madvise(memory_.get(), rounded, MADV_HUGEPAGE);  // advice only: attention reads pages all over the pool
  const std::int64_t element = geometry.element_bytes(), tokens = geometry.page_size;
  for (std::int64_t layer = 0; layer < layers_; ++layer) {
    std::byte* base = memory_.get() + layer * layer_bytes_;
    attention::Plane k{.base = base,
                       .page_stride = page_bytes_ / element,
                       .head_stride = tokens * geometry.stored_channels(),
                       .token_stride = geometry.head_dim};
    if (geometry.kv_type == attention::KvType::int8) {
      k.scales = reinterpret_cast<float*>(base + vector_bytes(geometry));
      k.scale_page_stride = page_bytes_ / 4;
      k.scale_head_stride = vectors_of_token(geometry) * tokens;
    }
    attention::Plane v = k;
    if (!geometry.values_in_keys) {
      v.base = base + tokens * geometry.head_dim * element;
      v.token_stride = geometry.value_channels();
      if (v.scales) v.scales += tokens;
    }
    views_.push_back({k, v});
  }
}

std::byte* KvMemory::page(std::int64_t layer, kv::Page page) {
  return memory_.get() + layer * layer_bytes_ + page * page_bytes_;
}

void KvMemory::copy(kv::Page from, kv::Page to) {
  for (std::int64_t layer = 0; layer < layers_; ++layer)
    std::memcpy(page(layer, to), page(layer, from), static_cast<std::size_t>(page_bytes_));
}

}  // namespace vortex::engine
