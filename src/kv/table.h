// The pages of one sequence, in logical order. Only the last page may be partly filled, and only a page that nobody
// else holds is written: appending to a shared partly filled page takes a copy of it first. The owner calls release()
// at the end; a table does not free by itself. What finds no memory for its list of pages has taken none.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kv/pool.h"

namespace vortex::kv {

class PageTable {
 public:
  explicit PageTable(std::int64_t page_size, std::int64_t reserve_tokens = 0);

  std::int64_t tokens() const { return tokens_; }
  std::span<const Page> pages() const { return pages_; }
  std::int64_t page_size() const { return page_size_; }
  std::int64_t full_pages() const { return tokens_ / page_size_; }
  // Dense until the first token of another origin; then that one for good, prefilled tokens included, since their KV
  // depends on the tokens before them.
  Origin origin() const { return origin_; }

  // KV to copy before the new tokens are written; from is -1 when there is nothing to copy.
  struct Copy {
    Page from = -1, to = -1;
  };
  // Pages that append() takes from the pool, the copy of a shared last page included.
  std::int64_t pages_needed(const PagePool&, std::int64_t tokens) const;
  // Makes room for `tokens` more tokens of `origin`; the pool must have pages_needed() pages.
  Copy append(PagePool&, std::int64_t tokens, Origin origin);
  // Starts an empty table with full pages that others hold too.
  void adopt(PagePool&, std::span<const Page> pages, Origin origin);
  // A second table over the same pages.
  PageTable fork(PagePool&, std::int64_t reserve_tokens = 0) const;
  // Gives back the pages past the first `tokens` tokens.
  void truncate(PagePool&, std::int64_t tokens);
  void release(PagePool& pool) { truncate(pool, 0); }

  void check_integrity(const PagePool&) const;

 private:
  std::int64_t page_size_;
  std::int64_t tokens_ = 0;
  Origin origin_ = kDense;
  std::vector<Page> pages_;
};

}  // namespace vortex::kv
