#include "base/text.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/check.h"
#include "base/float16.h"
#include "base/thread_pool.h"

namespace vortex {
namespace {

TEST(Text, ConcatenatesAllKinds) {
  EXPECT_EQ(concat("page ", 3, " of ", 8u, ' ', 0.5, ' ', true), "page 3 of 8 0.5 true");
}

TEST(Text, NearestNameOffersOnlyNearNames) {
  std::vector<std::string> known = {"budget", "page_size", "sinks"};
  EXPECT_EQ(nearest_name("bugdet", known), "budget");
  const std::vector<std::string> summaries = {"index", "mean", "tokens"};
  EXPECT_EQ(nearest_name("maen", summaries), "mean");
  EXPECT_EQ(nearest_name("pagesize", known), "page_size");
  EXPECT_EQ(nearest_name("temperature", known), "");
}

TEST(Error, FollowsTheFormula) {
  try {
    VORTEX_CHECK(1 == 2, "one is ", 1);
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("] the invariant `1 == 2` holds; one is 1;"), std::string::npos)
        << error.what();
  }
}

TEST(Float16, RoundTripsEveryValue) {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    Float16 half{static_cast<std::uint16_t>(bits)};
    float wide = to_float(half);
    if (wide != wide) continue;
    EXPECT_EQ(to_float16(wide).bits, half.bits);
    BFloat16 brain{static_cast<std::uint16_t>(bits)};
    float value = to_float(brain);
    if (value == value) {
      EXPECT_EQ(to_bfloat16(value).bits, brain.bits);
    }
  }
}

TEST(Float16, RoundsToNearestEven) {
  EXPECT_EQ(to_float16(1.0f + 0x1p-11f).bits, to_float16(1.0f).bits);
  EXPECT_EQ(to_float(to_float16(1.0f + 0x1.8p-10f)), 1.0f + 0x1p-9f);
  EXPECT_EQ(to_float(to_float16(0x1p-25f)), 0.0f);
  EXPECT_EQ(to_float(to_float16(65520.0f)), std::numeric_limits<float>::infinity());
  EXPECT_EQ(to_bfloat16(1.0f + 0x1p-8f).bits, to_bfloat16(1.0f).bits);
}

TEST(ThreadPool, RunsEveryTaskOnceAndRethrows) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (int round = 0; round < 200; ++round) {
      std::vector<int> seen(97, 0);
      pool.for_each(97, [&](std::int64_t i, int worker) {
        ASSERT_LT(worker, threads);
        ++seen[static_cast<std::size_t>(i)];
      });
      for (int count : seen) ASSERT_EQ(count, 1);
    }
    EXPECT_THROW(pool.for_each(50,
                               [](std::int64_t i, int) {
                                 if (i == 7) throw std::runtime_error("seven");
                               }),
                 std::runtime_error);
    int total = 0;
    pool.for_each(1, [&](std::int64_t, int) { ++total; });
    EXPECT_EQ(total, 1);
  }
}

}  // namespace
}  // namespace vortex
