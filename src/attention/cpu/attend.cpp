#include "attention/cpu/attend.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <limits>
#include <numbers>
#include <tuple>

#include "base/arithmetic.h"
#include "base/check.h"

namespace vortex::attention {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kBlockRows = 64;     // query rows of a prefill block, about
constexpr std::int64_t kBlockQueries = 16;  // query tokens of a prefill block at most; a power of two

// Tokens of a prefill block. Blocks lie at multiples of it, so none crosses the end of a split.
std::int64_t block_queries(std::int64_t group) {
  std::int64_t queries = kBlockQueries;
  while (queries > 1 && queries * group > kBlockRows) queries /= 2;
  return queries;
}

// Fills `split` with pointers to the tokens [begin, end) of the row's list.
void locate(const AttendRow& row, const KvView& kv, const Geometry& geometry, std::int64_t begin, std::int64_t end,
            Split& split) {
  const std::int64_t page_size = geometry.page_size, element = geometry.element_bytes();
  split.tokens = end - begin;
  const std::int64_t listed = row.list ? row.list_page_size : page_size;
  std::int64_t entry = begin / listed, offset = begin % listed;
  std::int64_t slot = 0;
  while (slot < split.tokens) {
    const std::int64_t page = row.list ? row.list[entry] : entry;
    // The part of the listed page that lies in one physical page.
    const std::int64_t within = offset % page_size;
    const std::int64_t physical = row.page_table[page * (listed / page_size) + offset / page_size];
    const std::int64_t run = std::min(page_size - within, split.tokens - slot);
    const auto* k = static_cast<const std::byte*>(kv.k.base) + kv.k.offset(physical, row.kv_head, within) * element;
    const auto* v = static_cast<const std::byte*>(kv.v.base) + kv.v.offset(physical, row.kv_head, within) * element;
    for (std::int64_t i = 0; i < run; ++i, k += kv.k.token_stride * element, v += kv.v.token_stride * element) {
      split.k[slot + i] = k;
      split.v[slot + i] = v;
    }
    if (kv.k.scales) {
      const float* k_scale = kv.k.scale_at(physical, row.kv_head, within);
      const float* v_scale = kv.v.scale_at(physical, row.kv_head, within);
      __builtin_prefetch(k_scale, 0, 2);
      __builtin_prefetch(v_scale, 0, 2);
      for (std::int64_t i = 0; i < run; ++i) {
        split.k_scale[slot + i] = k_scale + i;
        split.v_scale[slot + i] = v_scale + i;
      }
    }
    slot += run;
    offset += run;
    if (offset >= listed) {
      offset = 0;
      ++entry;
    }
  }
}

// Merges partials as they come, in the tree of the room: push(i) after part i, in order, then finish().
template <class At>
class MergeStack {
 public:
  MergeStack(std::int64_t rows, std::int64_t value_dim, At at) : rows_(rows), value_dim_(value_dim), at_(at) {}
  std::int64_t depth() const { return depth_; }
  void push() {
    ++depth_;
    ++pushed_;
    for (std::int64_t n = pushed_; n % 2 == 0; n /= 2) merge_top();
  }
  void finish() {
    while (depth_ > 1) merge_top();
  }

 private:
  void merge_top() {
    merge(rows_, value_dim_, at_(depth_ - 2), at_(depth_ - 1));
    --depth_;
  }
  std::int64_t rows_, value_dim_;
  At at_;
  std::int64_t depth_ = 0, pushed_ = 0;
};

}  // namespace

void AttendPlan::make(const Geometry& geometry, std::span<const AttendRow> rows, int threads) {
  geometry_ = geometry;
  rows_.assign(rows.begin(), rows.end());
  items_.clear();
  first_part_.assign(rows.size(), 0);
  parts_.assign(rows.size(), 0);
  std::int64_t decode_splits = 0;
  for (const AttendRow& row : rows_)
    if (row.queries == 1) decode_splits += ceil_div(row.attended_tokens(), kSplitTokens);
  // Splits of an item: a power of two, so that an item's partial is a subtree; few enough for about 16 items a thread.
  std::int64_t wanted = std::clamp(decode_splits / (16 * threads), std::int64_t{4}, std::int64_t{64});
  const std::int64_t item_splits = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(wanted)));
  const std::int64_t block = block_queries(geometry.group);
  std::int64_t parts = 0, longest = 1, block_rows = geometry.group;
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    const AttendRow& row = rows_[r];
    VORTEX_CHECK(row.tokens >= row.queries && row.queries >= 1, "a row of ", row.tokens, " tokens and ", row.queries,
                 " queries");
    VORTEX_CHECK(!row.list || (row.queries == 1 && row.list_tokens >= 1), "a list of ", row.list_tokens, " tokens for ",
                 row.queries, " queries");
    if (row.queries == 1) {
      const std::int64_t splits = ceil_div(row.attended_tokens(), kSplitTokens);
      const std::int64_t count = ceil_div(splits, item_splits);
      longest = std::max(longest, splits);
      first_part_[r] = static_cast<std::int32_t>(parts);
      parts_[r] = static_cast<std::int32_t>(count);
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t first = i * item_splits, last = std::min(first + item_splits, splits);
        items_.push_back({static_cast<std::int32_t>(r), static_cast<std::int32_t>(first),
                          static_cast<std::int32_t>(last), count > 1 ? static_cast<std::int32_t>(i) : -1,
                          (last - first) * (geometry.group + 6)});
      }
      if (count > 1) parts += count;
    } else {
      block_rows = std::max(block_rows, std::min<std::int64_t>(block, row.queries) * geometry.group);
      longest = std::max(longest, ceil_div(row.tokens, kSplitTokens));
      const std::int64_t start = row.tokens - row.queries;  // position of the first query
      for (std::int64_t first = 0; first < row.queries;) {
        const std::int64_t last = std::min<std::int64_t>((start + first) / block * block + block - start, row.queries);
        items_.push_back({static_cast<std::int32_t>(r), static_cast<std::int32_t>(first),
                          static_cast<std::int32_t>(last), -1,
                          ceil_div(start + last, kSplitTokens) * ((last - first) * geometry.group + 6)});
        first = last;
      }
    }
  }
  // The dearest first: what is left for the end is small.
  std::sort(items_.begin(), items_.end(), [](const AttendItem& a, const AttendItem& b) {
    return std::tuple(-a.cost, a.row, a.first, a.part) < std::tuple(-b.cost, b.row, b.first, b.part);
  });

  if (static_cast<std::int64_t>(rows.size()) > arrived_capacity_) {
    arrived_capacity_ = static_cast<std::int64_t>(rows.size());
    arrived_ = std::make_unique<std::atomic<std::int32_t>[]>(rows.size());
  }
  part_floats_ = partial_floats(geometry.group, geometry.value_channels());
  part_memory_.reserve(parts * part_floats_);
  while (workers_.size() < static_cast<std::size_t>(threads)) workers_.push_back(std::make_unique<Worker>());
  const std::int64_t levels = std::bit_width(static_cast<std::uint64_t>(longest)) + 1;
  for (auto& worker : workers_) {
    worker->visible.reserve(2 * block_rows);
    worker->q.reserve(block_rows * geometry.head_dim);
    worker->kernel.reserve(split_scratch_floats(block_rows, geometry));
    worker->partials.reserve(levels * partial_floats(block_rows, geometry.value_channels()));
  }
}

void AttendPlan::run(const KvView& kv, const float* q, float* out, ThreadPool& pool, double* busy) {
  VORTEX_CHECK(static_cast<std::size_t>(pool.threads()) <= workers_.size(), pool.threads(), " threads");
  for (std::size_t r = 0; r < rows_.size(); ++r) arrived_[r].store(0, std::memory_order_relaxed);
  for (auto& worker : workers_) worker->busy[0] = worker->busy[1] = 0;
  pool.for_each(static_cast<std::int64_t>(items_.size()), [&](std::int64_t index, int w) {
    const AttendItem& item = items_[static_cast<std::size_t>(index)];
    Worker& worker = *workers_[static_cast<std::size_t>(w)];
    const bool prefill = rows_[static_cast<std::size_t>(item.row)].queries > 1;
    const Clock::time_point start = Clock::now();
    if (prefill)
      attend_prefill(item, kv, q, out, worker);
    else
      attend_decode(item, kv, q, out, likely_next(index + pool.threads(), kv, worker), worker);
    worker.busy[prefill] += std::chrono::duration<double>(Clock::now() - start).count();
  });
  for (auto& worker : workers_)
    for (int i = 0; i < 2; ++i) busy[i] += worker->busy[i];
}

// Threads take items in turn, so this worker probably comes to `index` after its present item.
const Split* AttendPlan::likely_next(std::int64_t index, const KvView& kv, Worker& worker) const {
  if (index >= static_cast<std::int64_t>(items_.size())) return nullptr;
  const AttendItem& item = items_[static_cast<std::size_t>(index)];
  const AttendRow& row = rows_[static_cast<std::size_t>(item.row)];
  if (row.queries > 1) return nullptr;
  const std::int64_t begin = item.first * kSplitTokens;
  locate(row, kv, geometry_, begin, std::min(begin + kSplitTokens, row.attended_tokens()), worker.splits[2]);
  return &worker.splits[2];
}

void AttendPlan::scale_q(const float* from, std::int64_t count, float* to) const {
  const float factor = geometry_.scale * std::numbers::log2e_v<float>;
  for (std::int64_t i = 0; i < count; ++i) to[i] = from[i] * factor;
}

Partial AttendPlan::attend_range(const AttendRow& row, const KvView& kv, std::int64_t rows, const float* q,
                                 const std::int32_t* seen, std::int64_t first, std::int64_t last, const Split* after,
                                 Worker& worker) {
  const std::int64_t value_dim = geometry_.value_channels(), floats = partial_floats(rows, value_dim);
  std::int32_t* visible = worker.visible.get() + rows;  // the first half may hold `seen`
  auto at = [&](std::int64_t level) { return partial_at(worker.partials.get() + level * floats, rows); };
  MergeStack stack(rows, value_dim, at);
  const std::int64_t total = seen[rows - 1];
  auto fill = [&](std::int64_t s) {
    locate(row, kv, geometry_, s * kSplitTokens, std::min((s + 1) * kSplitTokens, total), worker.splits[s & 1]);
  };
  fill(first);
  for (std::int64_t s = first; s < last; ++s) {
    if (s + 1 < last) fill(s + 1);
    for (std::int64_t r = 0; r < rows; ++r)
      visible[r] = static_cast<std::int32_t>(std::min<std::int64_t>(seen[r] - s * kSplitTokens, kSplitTokens));
    const QueryBlock block{rows, geometry_.head_dim, value_dim, geometry_.kv_type, q, visible};
    attend_split(worker.splits[s & 1], s + 1 < last ? &worker.splits[(s + 1) & 1] : after, block, worker.kernel.get(),
                 at(stack.depth()));
    stack.push();
  }
  stack.finish();
  return at(0);
}

// The rest joins the softmax as one more token of each query head. Nothing left changes no bit.
void AttendPlan::join_rest(const float* rest, const Partial& attended, float* out) const {
  const std::int64_t group = geometry_.group, value_dim = geometry_.value_channels();
  for (std::int64_t head = 0; head < group; ++head) {
    const float logit = rest[head] * std::numbers::log2e_v<float>;
    if (logit == -std::numeric_limits<float>::infinity()) continue;
    const float* value = rest + group + head * value_dim;
    float* to = out + head * value_dim;
    const float m = std::max(attended.m[head], logit);
    const float own = attended.l[head] * std::exp2(attended.m[head] - m), other = std::exp2(logit - m);
    const float inverse = 1.0f / (own + other);
    for (std::int64_t d = 0; d < value_dim; ++d) to[d] = (to[d] * own + value[d] * other) * inverse;
  }
}

void AttendPlan::attend_decode(const AttendItem& item, const KvView& kv, const float* q, float* out, const Split* after,
                               Worker& worker) {
  const std::size_t r = static_cast<std::size_t>(item.row);
  const AttendRow& row = rows_[r];
  const std::int64_t group = geometry_.group, head_dim = geometry_.head_dim, value_dim = geometry_.value_channels();
  const std::int64_t first = (static_cast<std::int64_t>(row.first_query) * geometry_.kv_heads + row.kv_head) * group;
  scale_q(q + first * head_dim, group * head_dim, worker.q.get());
  std::int32_t* seen = worker.visible.get();
  std::fill_n(seen, group, static_cast<std::int32_t>(row.attended_tokens()));
  const Partial partial = attend_range(row, kv, group, worker.q.get(), seen, item.first, item.last, after, worker);
  if (item.part < 0) {
    write_out(group, value_dim, partial, out + first * value_dim, value_dim);
    if (row.rest != nullptr) join_rest(row.rest, partial, out + first * value_dim);
    return;
  }
  float* parts = part_memory_.get() + first_part_[r] * part_floats_;
  std::copy_n(partial.m, part_floats_, parts + item.part * part_floats_);
  // The last of a row's items merges them all.
  if (arrived_[r].fetch_add(1, std::memory_order_acq_rel) + 1 < parts_[r]) return;
  std::int64_t part_of[64];  // which part holds each level of the stack
  auto at = [&](std::int64_t level) { return partial_at(parts + part_of[level] * part_floats_, group); };
  MergeStack stack(group, value_dim, at);
  for (std::int64_t i = 0; i < parts_[r]; ++i) {
    part_of[stack.depth()] = i;
    stack.push();
  }
  stack.finish();
  write_out(group, value_dim, at(0), out + first * value_dim, value_dim);
  if (row.rest != nullptr) join_rest(row.rest, at(0), out + first * value_dim);
}

void AttendPlan::attend_prefill(const AttendItem& item, const KvView& kv, const float* q, float* out, Worker& worker) {
  const AttendRow& row = rows_[static_cast<std::size_t>(item.row)];
  const std::int64_t group = geometry_.group, head_dim = geometry_.head_dim, value_dim = geometry_.value_channels();
  const std::int64_t heads = geometry_.kv_heads * group;
  const std::int64_t first = (row.first_query + item.first) * heads + row.kv_head * group;  // head of q and out
  const std::int64_t queries = item.last - item.first, rows = queries * group;
  std::int32_t* seen = worker.visible.get();
  for (std::int64_t i = 0; i < queries; ++i) {
    scale_q(q + (first + i * heads) * head_dim, group * head_dim, worker.q.get() + i * group * head_dim);
    std::fill_n(seen + i * group, group, row.tokens - row.queries + item.first + static_cast<std::int32_t>(i) + 1);
  }
  const std::int64_t splits = ceil_div(seen[rows - 1], kSplitTokens);
  const Partial partial = attend_range(row, kv, rows, worker.q.get(), seen, 0, splits, nullptr, worker);
  for (std::int64_t i = 0; i < queries; ++i) {
    const Partial token{partial.m + i * group, partial.l + i * group, partial.acc + i * group * value_dim};
    write_out(group, value_dim, token, out + (first + i * heads) * value_dim, value_dim);
  }
}

}  // namespace vortex::attention
