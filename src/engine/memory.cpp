#include "engine/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "base/check.h"

namespace vortex::engine {

namespace {
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}

std::int64_t available_memory() {
  std::int64_t available = std::numeric_limits<std::int64_t>::max() / 2;
  std::ifstream meminfo("/proc/meminfo");
  for (std::string name, unit; meminfo >> name;) {
    std::int64_t kibibytes = 0;
    meminfo >> kibibytes;
    std::getline(meminfo, unit);
    if (name == "MemAvailable:") available = std::min(available, kibibytes * 1024);
  }
  std::int64_t limit = 0, used = 0;  // "max" leaves the stream failed: no limit
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit && std::ifstream("/sys/fs/cgroup/memory.current") >> used) {
    std::ifstream stat("/sys/fs/cgroup/memory.stat");
    std::int64_t bytes = 0;
    for (std::string name; stat >> name >> bytes;)
      if (name == "inactive_file") used -= bytes;  // cached files make room when asked
    available = std::min(available, std::max<std::int64_t>(0, limit - used));
  }
  return available;
}

void KvMemory::Free::operator()(BFloat16* memory) const { std::free(memory); }

std::int64_t KvMemory::page_bytes(const attention::Geometry& geometry) {
  return geometry.layers * geometry.kv_heads * geometry.page_size * geometry.token_bytes();
}

KvMemory::KvMemory(const attention::Geometry& geometry, std::int64_t pages)
    : layers_(geometry.layers),
      page_elements_(geometry.kv_heads * geometry.page_size * geometry.stored_channels()),
      layer_elements_(page_elements_ * pages),
      bytes_(page_bytes(geometry) * pages) {
  std::size_t rounded = (static_cast<std::size_t>(bytes_) + kHugePage - 1) / kHugePage * kHugePage;
  memory_.reset(static_cast<BFloat16*>(std::aligned_alloc(kHugePage, rounded)));
  if (memory_ == nullptr)
    throw MachineError("engine", concat("memory for ", pages, " KV pages, ", bytes_, " bytes"), "the system refused it",
                       "lower `pages`, `memory_bytes` or `max_context`");
  madvise(memory_.get(), rounded, MADV_HUGEPAGE);  // advice only: attention reads pages all over the pool
  for (std::int64_t layer = 0; layer < layers_; ++layer) {
    attention::Plane k{.base = memory_.get() + layer * layer_elements_,
                       .page_stride = page_elements_,
                       .head_stride = geometry.page_size * geometry.stored_channels(),
                       .token_stride = geometry.head_dim};
    attention::Plane v = k;
    if (!geometry.values_in_keys) {
      v.base += geometry.page_size * geometry.head_dim;
      v.token_stride = geometry.value_channels();
    }
    views_.push_back({k, v});
  }
}

BFloat16* KvMemory::page(std::int64_t layer, kv::Page page) {
  return memory_.get() + layer * layer_elements_ + page * page_elements_;
}

void KvMemory::copy(kv::Page from, kv::Page to) {
  for (std::int64_t layer = 0; layer < layers_; ++layer)
    std::memcpy(page(layer, to), page(layer, from), static_cast<std::size_t>(page_elements_) * sizeof(BFloat16));
}

}  // namespace vortex::engine
