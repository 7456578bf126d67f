// A paged KV store of random values for tests: shuffled physical pages, guard bytes around everything, and the double
// precision reference of attention over it.
#pragma once

#include <gtest/gtest.h>
#include <vortex/error.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "attention/layer.h"
#include "attention/types.h"

namespace vortex::attention {

// Floats with guard regions on both sides and poison (NaN) inside.
class Guarded {
 public:
  explicit Guarded(std::int64_t count) : count_(count), data_(static_cast<std::size_t>(count + 2 * kGuard), kMark) {
    std::fill_n(get(), count, std::nanf(""));
  }
  float* get() { return data_.data() + kGuard; }
  std::int64_t count() const { return count_; }
  // The guards are whole and nothing inside is poison.
  void check() {
    for (std::int64_t i = 0; i < kGuard; ++i) {
      ASSERT_EQ(data_[static_cast<std::size_t>(i)], kMark) << "written before the buffer";
      ASSERT_EQ(data_[static_cast<std::size_t>(kGuard + count_ + i)], kMark) << "written behind the buffer";
    }
    for (std::int64_t i = 0; i < count_; ++i)
      ASSERT_FALSE(std::isnan(get()[i])) << "element " << i << " was not written";
  }

 private:
  static constexpr std::int64_t kGuard = 64;
  static constexpr float kMark = 12345.5f;
  std::int64_t count_;
  std::vector<float> data_;
};

inline std::vector<float> random_floats(std::int64_t count, std::mt19937& random, float spread = 1.0f) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

// KV of `layers` layers in pages [physical page, kv_head, {K, V}, token, dim], or token-major [physical page, token,
// kv_head, dim] with K and V apart; without the V where values lie in the keys. Slots that no test token fills hold
// NaN.
struct PagedKv {
  Geometry geometry;
  std::int64_t pages = 0;
  std::vector<std::vector<BFloat16>> memory;  // [layers]
  std::vector<KvView> views;                  // [layers]

  PagedKv(const Geometry& of, std::int64_t page_count, bool token_major = false) : geometry(of), pages(page_count) {
    const std::int64_t dim = of.head_dim, value_dim = of.value_channels(), page = of.page_size, heads = of.kv_heads;
    const std::int64_t both = page * of.stored_channels();
    for (std::int64_t layer = 0; layer < of.layers; ++layer) {
      memory.emplace_back(static_cast<std::size_t>(pages * heads * both), BFloat16{0x7fc1});
      BFloat16* base = memory.back().data();
      if (token_major) {
        const Plane k{base, page * heads * dim, dim, heads * dim};
        const Plane v{base + pages * heads * page * dim, page * heads * value_dim, value_dim, heads * value_dim};
        views.push_back({k, of.values_in_keys ? k : v});
      } else {
        const Plane k{base, heads * both, both, dim};
        views.push_back({k, of.values_in_keys ? k : Plane{base + page * dim, heads * both, both, value_dim}});
      }
    }
  }

  // Random KV for the tokens [0, tokens) of a page table, in all layers.
  void fill(const std::vector<std::int32_t>& table, std::int64_t tokens, std::mt19937& random) {
    std::normal_distribution<float> normal;
    for (KvView& view : views)
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t h = 0; h < geometry.kv_heads; ++h) {
          const std::int64_t p = table[static_cast<std::size_t>(t / geometry.page_size)];
          for (std::int64_t d = 0; d < geometry.head_dim; ++d)
            view.k.at(p, h, t % geometry.page_size)[d] = to_bfloat16(normal(random));
          for (std::int64_t d = 0; d < geometry.value_channels() && !geometry.values_in_keys; ++d)
            view.v.at(p, h, t % geometry.page_size)[d] = to_bfloat16(normal(random));
        }
  }
};

// Hands out shuffled physical pages.
struct PageDealer {
  std::vector<std::int32_t> free;
  PageDealer(std::int64_t pages, std::mt19937& random) : free(static_cast<std::size_t>(pages)) {
    std::iota(free.begin(), free.end(), 0);
    std::shuffle(free.begin(), free.end(), random);
  }
  std::vector<std::int32_t> take(std::int64_t count) {
    std::vector<std::int32_t> table(free.end() - count, free.end());
    free.resize(free.size() - static_cast<std::size_t>(count));
    return table;
  }
};

// Logical tokens of a list of flow pages.
inline std::vector<std::int64_t> tokens_of(const std::vector<std::int32_t>& list, std::int64_t page_size,
                                           std::int64_t tokens) {
  std::vector<std::int64_t> all;
  for (std::int32_t page : list)
    for (std::int64_t t = page * page_size; t < std::min((page + 1) * page_size, tokens); ++t) all.push_back(t);
  return all;
}
inline std::vector<std::int64_t> all_tokens(std::int64_t tokens) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(tokens));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// Attention of one query head in double: out [value_dim].
inline std::vector<double> reference(const PagedKv& kv, std::int64_t layer, std::int64_t kv_head,
                                     const std::vector<std::int32_t>& table, const std::vector<std::int64_t>& tokens,
                                     const float* q) {
  const std::int64_t dim = kv.geometry.head_dim, value_dim = kv.geometry.value_channels(), page = kv.geometry.page_size;
  const KvView& view = kv.views[static_cast<std::size_t>(layer)];
  std::vector<double> logits, out(static_cast<std::size_t>(value_dim), 0.0);
  double largest = -INFINITY, total = 0;
  for (std::int64_t t : tokens) {
    const BFloat16* k = view.k.at(table[static_cast<std::size_t>(t / page)], kv_head, t % page);
    double sum = 0;
    for (std::int64_t d = 0; d < dim; ++d) sum += static_cast<double>(q[d]) * to_float(k[d]);
    logits.push_back(sum * kv.geometry.scale);
    largest = std::max(largest, logits.back());
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double p = std::exp(logits[i] - largest);
    const BFloat16* v = view.v.at(table[static_cast<std::size_t>(tokens[i] / page)], kv_head, tokens[i] % page);
    for (std::int64_t d = 0; d < value_dim; ++d) out[static_cast<std::size_t>(d)] += p * to_float(v[d]);
    total += p;
  }
  for (double& x : out) x /= total;
  return out;
}

inline bool same_bits(const float* a, const float* b, std::int64_t count) {
  return std::memcmp(a, b, static_cast<std::size_t>(count) * sizeof(float)) == 0;
}

}  // namespace vortex::attention
