// The order in which attend_split asks for lines of K and V before it needs them. Fetches only; reads nothing.
#pragma once

#include <cstdint>

#include "attention/cpu/split.h"
#include "base/arithmetic.h"

namespace vortex::attention {

// Fetches vectors of coming tokens a line at a time, between the arithmetic of other ones: the values of this split,
// then the keys of the next. Asked for all at once, the lines would wait for each other and hold up the loads of the
// arithmetic. Rows come from the four quarters of a split in turn: the memory's own prefetchers follow several streams
// at once, and a page alone is too short to set one going.
class Fetcher {
 public:
  Fetcher(const Split& split, const Split* next, std::int64_t value_bytes, std::int64_t key_bytes)
      : row_bytes_(value_bytes), next_row_bytes_(key_bytes) {
    if (next) {
      next_rows_ = next->k;
      next_count_ = next->tokens;
      lines_ = next->tokens * ceil_div(next_row_bytes_, 64);
    }
    if (split.v[0] != split.k[0]) {
      begin(split.v, split.tokens);
      lines_ += split.tokens * ceil_div(row_bytes_, 64);
    } else if (next) {  // the values lie in the keys, which are read first
      begin_next();
    }
  }
  std::int64_t left() const { return lines_; }
  [[gnu::always_inline]] inline void step(std::int64_t count) {
    for (; count > 0 && row_ < end_; --count) {
      __builtin_prefetch(static_cast<const char*>(*row_) + byte_, 0, 2);
      --lines_;
      byte_ += 64;
      if (byte_ >= row_bytes_) advance();
    }
  }

 private:
  static constexpr std::int64_t kStreams = 4;

  void begin(const void* const* rows, std::int64_t count) {
    row_ = rows_ = rows;
    end_ = rows + count;
    stride_ = ceil_div(count, kStreams);
    at_ = 0;
  }
  // The same row of the next quarter; after the last one, the next row of the first; after all, the next split.
  [[gnu::always_inline]] inline void advance() {
    byte_ = 0;
    row_ += stride_;
    if (row_ < end_) return;
    if (++at_ < stride_) {
      row_ = rows_ + at_;
      return;
    }
    begin_next();
  }
  [[gnu::always_inline]] inline void begin_next() {
    begin(next_rows_, next_count_);
    row_bytes_ = next_row_bytes_;
    next_count_ = 0;
  }

  const void* const* rows_ = nullptr;  // of the split that is fetched now
  const void* const* row_ = nullptr;
  const void* const* end_ = nullptr;
  const void* const* next_rows_ = nullptr;
  std::int64_t stride_ = 0, at_ = 0, next_count_ = 0;
  std::int64_t row_bytes_, next_row_bytes_, byte_ = 0, lines_ = 0;
};

}  // namespace vortex::attention
