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
  std::vector<std::vector<BFloat16>> memory;       // [layers]
  std::vector<std::vector<std::int8_t>> integers;  // int8: in place of memory
  std::vector<std::vector<float>> scales;          // int8: [layers][2, physical page, kv_head, token]
  std::vector<KvView> views;                       // [layers]

  PagedKv(const Geometry& of, std::int64_t page_count, bool token_major = false) : geometry(of), pages(page_count) {
    const std::int64_t dim = of.head_dim, value_dim = of.value_channels(), page = of.page_size, heads = of.kv_heads;
    const std::int64_t both = page * of.stored_channels();
    for (std::int64_t layer = 0; layer < of.layers; ++layer) {
      if (of.kv_type == KvType::int8) {
        integers.emplace_back(static_cast<std::size_t>(pages * heads * both), std::int8_t{-77});
        scales.emplace_back(static_cast<std::size_t>(2 * pages * heads * page), std::nanf(""));
        std::int8_t* base = integers.back().data();
        Plane k{base, heads * both, both, dim, scales.back().data(), heads * page, page};
        if (token_major) k.page_stride = page * heads * dim, k.head_stride = dim, k.token_stride = heads * dim;
        Plane v = k;
        v.scales += pages * heads * page;
        if (token_major) {
          v.base = base + pages * heads * page * dim;
          v.page_stride = page * heads * value_dim, v.head_stride = value_dim, v.token_stride = heads * value_dim;
        } else {
          v.base = base + page * dim;
          v.token_stride = value_dim;
        }
        views.push_back({k, of.values_in_keys ? k : v});
        continue;
      }
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

  // What is stored of a token, as numbers.
  double stored(const Plane& plane, std::int64_t p, std::int64_t head, std::int64_t token, std::int64_t channel) const {
    if (geometry.kv_type == KvType::int8)
      return static_cast<double>(plane.at<std::int8_t>(p, head, token)[channel]) *
             static_cast<double>(*plane.scale_at(p, head, token));
    return static_cast<double>(to_float(plane.at<BFloat16>(p, head, token)[channel]));
  }

  // Random KV for the tokens [0, tokens) of a page table, in all layers.
  void fill(const std::vector<std::int32_t>& table, std::int64_t tokens, std::mt19937& random) {
    std::normal_distribution<float> normal;
    auto draw = [&](const Plane& plane, std::int64_t p, std::int64_t head, std::int64_t token, std::int64_t channels) {
      if (geometry.kv_type == KvType::int8)
        *plane.scale_at(p, head, token) = (1.0f + 0.3f * std::abs(normal(random))) / 40;
      for (std::int64_t d = 0; d < channels; ++d) {
        if (geometry.kv_type == KvType::int8)
          plane.at<std::int8_t>(p, head, token)[d] =
              static_cast<std::int8_t>(std::clamp(std::nearbyint(40 * normal(random)), -127.0f, 127.0f));
        else
          plane.at<BFloat16>(p, head, token)[d] = to_bfloat16(normal(random));
      }
    };
    for (KvView& view : views)
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t h = 0; h < geometry.kv_heads; ++h) {
          const std::int64_t p = table[static_cast<std::size_t>(t / geometry.page_size)];
          draw(view.k, p, h, t % geometry.page_size, geometry.head_dim);
          if (!geometry.values_in_keys) draw(view.v, p, h, t % geometry.page_size, geometry.value_channels());
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
    const std::int64_t p = table[static_cast<std::size_t>(t / page)];
    double sum = 0;
    for (std::int64_t d = 0; d < dim; ++d)
      sum += static_cast<double>(q[d]) * kv.stored(view.k, p, kv_head, t % page, d);
    logits.push_back(sum * kv.geometry.scale);
    largest = std::max(largest, logits.back());
  }
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double share = std::exp(logits[i] - largest);
    const std::int64_t p = table[static_cast<std::size_t>(tokens[i] / page)];
    for (std::int64_t d = 0; d < value_dim; ++d)
      out[static_cast<std::size_t>(d)] += share * kv.stored(view.v, p, kv_head, tokens[i] % page, d);
    total += share;
  }
  for (double& x : out) x /= total;
  return out;
}

inline bool same_bits(const float* a, const float* b, std::int64_t count) {
  return std::memcmp(a, b, static_cast<std::size_t>(count) * sizeof(float)) == 0;
}

}  // namespace vortex::attention
