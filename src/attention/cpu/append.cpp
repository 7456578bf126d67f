#include "attention/cpu/append.h"

#include <algorithm>

#include "attention/cpu/convert.h"

namespace vortex::attention {

namespace {

constexpr std::int64_t kTaskTokens = 16;
constexpr std::int64_t kAloneTokens = 32;  // so few are stored before another thread has joined

void store(KvType type, const float* from, const Plane& plane, std::int64_t page, std::int64_t head, std::int64_t token,
           std::int64_t channels) {
  if (type == KvType::int8)
    store_int8(from, plane.at<std::int8_t>(page, head, token), plane.scale_at(page, head, token), channels);
  else
    store_bfloat16(from, plane.at<BFloat16>(page, head, token), channels);
}

void append_range(const Geometry& geometry, const KvView& kv, const Slice& slice, std::int64_t begin, std::int64_t end,
                  const float* k, const float* v) {
  const std::int64_t dim = geometry.head_dim, value_dim = geometry.value_channels();
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t position = slice.context + i, from = (slice.first_token + i) * geometry.kv_heads;
    const std::int64_t page = slice.page_table[position / geometry.page_size], token = position % geometry.page_size;
    for (std::int64_t head = 0; head < geometry.kv_heads; ++head) {
      store(geometry.kv_type, k + (from + head) * dim, kv.k, page, head, token, dim);
      if (!geometry.values_in_keys)
        store(geometry.kv_type, v + (from + head) * value_dim, kv.v, page, head, token, value_dim);
    }
  }
}

}  // namespace

void append_tokens(const Geometry& geometry, const KvView& kv, std::span<const Slice> slices, const float* k,
                   const float* v, ThreadPool& pool) {
  std::int64_t tokens = 0, tasks = 0;
  for (const Slice& slice : slices) {
    tokens += slice.token_count;
    tasks += (slice.token_count + kTaskTokens - 1) / kTaskTokens;
  }
  if (tokens <= kAloneTokens) {
    for (const Slice& slice : slices) append_range(geometry, kv, slice, 0, slice.token_count, k, v);
    return;
  }
  pool.for_each(tasks, [&](std::int64_t task, int) {
    std::size_t s = 0;
    std::int64_t first = 0;  // task of the slice's first tokens
    for (;; ++s) {
      const std::int64_t own = (slices[s].token_count + kTaskTokens - 1) / kTaskTokens;
      if (task < first + own) break;
      first += own;
    }
    const std::int64_t begin = (task - first) * kTaskTokens;
    append_range(geometry, kv, slices[s], begin, std::min<std::int64_t>(begin + kTaskTokens, slices[s].token_count), k,
                 v);
  });
}

void Summarizer::run(const Geometry& geometry, const KvView& kv, std::span<const FullPage> pages, ThreadPool& pool,
                     std::int64_t layer) {
  if (pages.empty()) return;
  std::int64_t tokens = 0, fields = 0, scratch = 0;
  for (const FullPage& page : pages) {
    tokens = std::max<std::int64_t>(tokens, page.tokens);
    fields = std::max(fields, static_cast<std::int64_t>(page.flow->fields().size()));
    scratch = std::max(scratch, page.flow->scratch_floats());
  }
  while (workers_.size() < static_cast<std::size_t>(pool.threads())) workers_.push_back(std::make_unique<Worker>());
  for (auto& worker : workers_) {
    worker->tokens.reserve(2 * tokens);
    if (geometry.kv_type == KvType::int8) worker->widened.reserve(tokens * geometry.stored_channels());
    worker->outputs.reserve(fields);
    worker->scratch.reserve(scratch);
  }
  auto one = [&](std::int64_t index, int w) {
    const FullPage& page = pages[static_cast<std::size_t>(index / geometry.kv_heads)];
    const std::int64_t head = index % geometry.kv_heads;
    Worker& worker = *workers_[static_cast<std::size_t>(w)];
    const BFloat16** k = worker.tokens.get();
    const BFloat16** v = k + page.tokens;
    for (std::int64_t t = 0; t < page.tokens; ++t) {
      const std::int64_t physical = page.physical[t / geometry.page_size], token = t % geometry.page_size;
      if (geometry.kv_type == KvType::int8) {
        BFloat16* wide = worker.widened.get() + t * geometry.stored_channels();
        auto load = [&](const Plane& plane, std::int64_t channels, BFloat16* to) {
          load_int8(plane.at<std::int8_t>(physical, head, token), *plane.scale_at(physical, head, token), to, channels);
          return to;
        };
        k[t] = load(kv.k, geometry.head_dim, wide);
        v[t] = geometry.values_in_keys ? k[t] : load(kv.v, geometry.value_channels(), wide + geometry.head_dim);
        continue;
      }
      k[t] = kv.k.at<BFloat16>(physical, head, token);
      v[t] = kv.v.at<BFloat16>(physical, head, token);
    }
    const std::int64_t home = page.physical[page.tokens / geometry.page_size - 1];
    for (std::size_t f = 0; f < page.flow->fields().size(); ++f)
      worker.outputs.get()[f] = page.fields[f].at(home, head);
    page.flow->summarize(k, v, worker.outputs.get(), worker.scratch.get(), page.pages, layer, head);
  };
  const std::int64_t tasks = static_cast<std::int64_t>(pages.size()) * geometry.kv_heads;
  if (tasks <= 2) {
    for (std::int64_t i = 0; i < tasks; ++i) one(i, 0);
    return;
  }
  pool.for_each(tasks, one);
}

}  // namespace vortex::attention
