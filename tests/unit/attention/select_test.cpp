// The top-k against sorting, on scores with ties, infinities, NaN and both zeros.
#include "attention/cpu/select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace vortex::attention {
namespace {

std::vector<std::int32_t> sorted_top(const std::vector<float>& scores, std::int64_t k, std::int32_t first) {
  std::vector<std::int32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  auto better = [&](std::int32_t a, std::int32_t b) {
    const double x = scores[static_cast<std::size_t>(a)], y = scores[static_cast<std::size_t>(b)];
    if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
    return x > y;
  };
  std::stable_sort(order.begin(), order.end(), better);
  order.resize(static_cast<std::size_t>(k));
  std::sort(order.begin(), order.end());
  for (std::int32_t& index : order) index += first;
  return order;
}

void expect_top(const std::vector<float>& scores, std::int64_t k, std::int32_t first) {
  const std::size_t wanted = static_cast<std::size_t>(k);
  std::vector<std::int32_t> out(wanted + 2, -7);
  std::vector<std::uint32_t> keys(scores.size() + 1, 99u);
  select_top(scores.data(), static_cast<std::int64_t>(scores.size()), k, first, out.data() + 1, keys.data());
  ASSERT_EQ(out.front(), -7);
  ASSERT_EQ(out.back(), -7);
  ASSERT_EQ(keys.back(), 99u);
  ASSERT_EQ(std::vector<std::int32_t>(out.begin() + 1, out.end() - 1), sorted_top(scores, k, first))
      << scores.size() << " scores, k = " << k;
}

TEST(Select, AgreesWithSorting) {
  std::mt19937 random(11);
  for (int round = 0; round < 400; ++round) {
    const std::size_t count = 1 + random() % (round % 10 == 0 ? 5000 : 300);
    std::vector<float> scores(count);
    const int kind = round % 5;
    for (float& score : scores) {
      switch (kind) {
        case 0:
          score = std::normal_distribution<float>()(random);
          break;
        case 1:
          score = static_cast<float>(random() % 4);
          break;  // ties
        case 2:
          score = std::exp(-40.0f * static_cast<float>(random() % 1000) / 1000);
          break;   // masses
        case 3: {  // everything odd
          const float odd[] = {INFINITY, -INFINITY, std::nanf(""), -std::nanf("1"), 0.0f, -0.0f, 1e-45f, -1e-45f, 1.0f};
          score = odd[random() % 9];
          break;
        }
        default:
          score = 1.0f + 1e-7f * static_cast<float>(random() % 3);
          break;  // apart in the last bit
      }
    }
    const std::int64_t k = static_cast<std::int64_t>(random() % (count + 1));
    expect_top(scores, k, static_cast<std::int32_t>(random() % 5));
    expect_top(scores, static_cast<std::int64_t>(count), 1);
    expect_top(scores, 1, 0);
  }
}

TEST(Select, AllEqualTakesTheFirst) { expect_top(std::vector<float>(100, -2.5f), 7, 3); }
TEST(Select, AllNaNTakesTheFirst) { expect_top(std::vector<float>(100, std::nanf("")), 7, 3); }
TEST(Select, NothingWanted) { expect_top(std::vector<float>(10, 1.0f), 0, 0); }

}  // namespace
}  // namespace vortex::attention
