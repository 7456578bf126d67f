// The pool of physical pages: who may use which page, and how many do. Plain bookkeeping: it holds no KV and knows no
// device, no sequence and no tree. Running out of pages is an answer (can_allocate), not an error.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace vortex::kv {

using Page = std::int32_t;

// What made the KV of a page: prefill and full attention (dense, the same for everybody), or decoding under a flow. An
// origin above 0 stands for one flow hash with one config; the engine gives these numbers out.
using Origin = std::int32_t;
inline constexpr Origin kDense = 0;

class PagePool {
 public:
  explicit PagePool(std::int64_t pages);

  std::int64_t size() const { return static_cast<std::int64_t>(references_.size()); }
  std::int64_t free_count() const { return static_cast<std::int64_t>(free_.size()); }

  bool can_allocate(std::int64_t pages) const { return pages <= free_count(); }
  Page allocate(Origin);  // one reference
  void share(Page);       // one reference more
  void free(Page);        // one reference less; the last one gives the page back

  std::int32_t references(Page) const;
  Origin origin(Page) const;
  void set_origin(Page, Origin);

  // Called with every page that is given back, so that whoever keeps data by page forgets it.
  void on_free(std::function<void(Page)> forget) { forget_ = std::move(forget); }
  // Gives pages out in a random order from now on.
  void shuffle(std::uint64_t seed);

  // expected[page]: references that tables and tree hold, counted anew. InternalError when counts or free list differ.
  void check_integrity(const std::vector<std::int32_t>& expected) const;

 private:
  std::vector<std::int32_t> references_;  // [pages]
  std::vector<Origin> origins_;           // [pages]
  std::vector<Page> free_;                // a stack
  std::function<void(Page)> forget_;
};

}  // namespace vortex::kv
