#include "kv/pool.h"

#include <utility>

#include "base/arithmetic.h"
#include "base/check.h"

namespace vortex::kv {

PagePool::PagePool(std::int64_t pages)
    : references_(static_cast<std::size_t>(pages), 0), origins_(static_cast<std::size_t>(pages), kDense) {
  free_.reserve(static_cast<std::size_t>(pages));
  for (std::int64_t page = pages; page-- > 0;) free_.push_back(static_cast<Page>(page));
}

Page PagePool::allocate(Origin origin) {
  VORTEX_CHECK(!free_.empty(), "no free page of ", size());
  Page page = free_.back();
  free_.pop_back();
  references_[static_cast<std::size_t>(page)] = 1;
  origins_[static_cast<std::size_t>(page)] = origin;
  return page;
}

void PagePool::share(Page page) {
  VORTEX_CHECK(references(page) > 0, "page ", page, " is free");
  ++references_[static_cast<std::size_t>(page)];
}

void PagePool::free(Page page) {
  VORTEX_CHECK(references(page) > 0, "page ", page, " is free already");
  if (--references_[static_cast<std::size_t>(page)] > 0) return;
  free_.push_back(page);
  if (forget_) forget_(page);
}

std::int32_t PagePool::references(Page page) const {
  VORTEX_CHECK(page >= 0 && page < size(), "page ", page, " of ", size());
  return references_[static_cast<std::size_t>(page)];
}

Origin PagePool::origin(Page page) const {
  VORTEX_CHECK(references(page) > 0, "page ", page, " is free");
  return origins_[static_cast<std::size_t>(page)];
}

void PagePool::set_origin(Page page, Origin origin) {
  VORTEX_CHECK(references(page) == 1, "page ", page, " has ", references(page), " references");
  origins_[static_cast<std::size_t>(page)] = origin;
}

void PagePool::shuffle(std::uint64_t seed) {
  std::uint64_t state = seed;
  for (std::size_t last = free_.size(); last > 1; --last) {  // Fisher-Yates over splitmix64
    state += kMixStep;
    std::swap(free_[last - 1], free_[mix_bits(state) % last]);
  }
}

void PagePool::check_integrity(const std::vector<std::int32_t>& expected) const {
  VORTEX_CHECK(expected.size() == references_.size(), expected.size(), " counts for ", size(), " pages");
  std::vector<bool> is_free(references_.size(), false);
  for (Page page : free_) {
    VORTEX_CHECK(page >= 0 && page < size() && !is_free[static_cast<std::size_t>(page)], "page ", page,
                 " is free twice");
    is_free[static_cast<std::size_t>(page)] = true;
  }
  for (std::size_t page = 0; page < references_.size(); ++page) {
    VORTEX_CHECK(references_[page] == expected[page], "page ", page, " counts ", references_[page],
                 " references and has ", expected[page]);
    VORTEX_CHECK(is_free[page] == (references_[page] == 0), "page ", page, " with ", references_[page],
                 " references, free list ", static_cast<bool>(is_free[page]));
  }
}

}  // namespace vortex::kv
