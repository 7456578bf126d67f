// The measured bandwidth is a plausible number, and what cannot be measured is refused.
#include "kernels/cpu/bandwidth.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

namespace vortex::kernels {
namespace {

TEST(Bandwidth, IsPlausible) {
  ThreadPool pool(2);
  const ReadBandwidth found = measured_read_bandwidth(pool, 64 << 20, 2);
  EXPECT_GT(found.bytes_per_second, 1e8);
  EXPECT_LT(found.bytes_per_second, 1e13);
  EXPECT_GE(found.bytes_per_second, found.median);
  EXPECT_EQ(found.bytes, 64 << 20);
  EXPECT_EQ(found.passes, 2);
  EXPECT_EQ(found.threads, 2);
}

TEST(Bandwidth, Words) {
  ThreadPool pool(1);
  auto words = [&](std::int64_t bytes, int passes) -> std::string {
    try {
      measured_read_bandwidth(pool, bytes, passes);
      return "no error";
    } catch (const UserError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(
      words(1000, 8),
      "[bandwidth] a buffer of at least 64 MiB and at least one pass; got 1000 bytes, 8 passes; use the defaults");
  EXPECT_EQ(words(1 << 30, 0),
            "[bandwidth] a buffer of at least 64 MiB and at least one pass; got 1073741824 bytes, 0 passes; use the "
            "defaults");
}

}  // namespace
}  // namespace vortex::kernels
