#include "kv/table.h"

#include <algorithm>

#include "base/arithmetic.h"
#include "base/check.h"

namespace vortex::kv {

namespace {

// Room for `count` pages before the first of them is taken: a list that finds no memory leaves pool and table as they
// were. Grows by doubling, as push_back would.
void make_room(std::vector<Page>& pages, std::size_t count) {
  if (count > pages.capacity()) pages.reserve(std::max(count, 2 * pages.capacity()));
}

}  // namespace

PageTable::PageTable(std::int64_t page_size, std::int64_t reserve_tokens) : page_size_(page_size) {
  VORTEX_CHECK(page_size > 0, "page_size ", page_size);
  pages_.reserve(static_cast<std::size_t>(ceil_div(reserve_tokens, page_size)));
}

std::int64_t PageTable::pages_needed(const PagePool& pool, std::int64_t tokens) const {
  bool copies = tokens > 0 && tokens_ % page_size_ != 0 && pool.references(pages_.back()) > 1;
  return ceil_div(tokens_ + tokens, page_size_) - static_cast<std::int64_t>(pages_.size()) + (copies ? 1 : 0);
}

PageTable::Copy PageTable::append(PagePool& pool, std::int64_t tokens, Origin origin) {
  VORTEX_CHECK(tokens >= 0 && (origin == kDense || origin_ == kDense || origin == origin_), tokens,
               " tokens of origin ", origin, " after origin ", origin_);
  Copy copy;
  if (tokens == 0) return copy;
  make_room(pages_, static_cast<std::size_t>(ceil_div(tokens_ + tokens, page_size_)));
  if (origin_ == kDense) origin_ = origin;
  if (tokens_ % page_size_ != 0) {
    Page last = pages_.back();
    if (pool.references(last) > 1) {
      copy = {last, pool.allocate(origin_)};
      pool.free(last);
      pages_.back() = copy.to;
    } else {
      pool.set_origin(last, origin_);
    }
  }
  tokens_ += tokens;
  while (static_cast<std::int64_t>(pages_.size()) < ceil_div(tokens_, page_size_))
    pages_.push_back(pool.allocate(origin_));
  return copy;
}

void PageTable::adopt(PagePool& pool, std::span<const Page> pages, Origin origin) {
  VORTEX_CHECK(tokens_ == 0, "the table holds ", tokens_, " tokens");
  make_room(pages_, pages.size());
  for (Page page : pages) {
    pool.share(page);
    pages_.push_back(page);
  }
  tokens_ = static_cast<std::int64_t>(pages.size()) * page_size_;
  origin_ = origin;
}

PageTable PageTable::fork(PagePool& pool, std::int64_t reserve_tokens) const {
  PageTable copy(page_size_, std::max(reserve_tokens, tokens_));
  for (Page page : pages_) {
    pool.share(page);
    copy.pages_.push_back(page);
  }
  copy.tokens_ = tokens_;
  copy.origin_ = origin_;
  return copy;
}

void PageTable::truncate(PagePool& pool, std::int64_t tokens) {
  VORTEX_CHECK(tokens >= 0 && tokens <= tokens_, tokens, " of ", tokens_, " tokens");
  while (static_cast<std::int64_t>(pages_.size()) > ceil_div(tokens, page_size_)) {
    pool.free(pages_.back());
    pages_.pop_back();
  }
  tokens_ = tokens;
  origin_ = pages_.empty() ? kDense : pool.origin(pages_.back());
}

void PageTable::check_integrity(const PagePool& pool) const {
  VORTEX_CHECK(static_cast<std::int64_t>(pages_.size()) == ceil_div(tokens_, page_size_), pages_.size(), " pages for ",
               tokens_, " tokens");
  Origin before = kDense;
  for (Page page : pages_) {
    Origin origin = pool.origin(page);
    VORTEX_CHECK(before == kDense || origin == before, "page ", page, " of origin ", origin, " after origin ", before);
    before = origin;
  }
  VORTEX_CHECK(pages_.empty() || before == origin_, "the table has origin ", origin_, ", its last page ", before);
}

}  // namespace vortex::kv
