// Division upwards and mixed bits.
#include "base/arithmetic.h"

#include <gtest/gtest.h>

namespace vortex {
namespace {

TEST(Arithmetic, CeilDivCountsPieces) {
  for (std::int64_t a = 0; a < 50; ++a)
    for (std::int64_t b = 1; b < 9; ++b) {
      const std::int64_t pieces = ceil_div(a, b);
      EXPECT_GE(pieces * b, a);
      EXPECT_LT((pieces - 1) * b, a) << a << " in pieces of " << b;
    }
}

// The first numbers of splitmix64 from the state 0, as its authors publish them.
TEST(Arithmetic, MixBitsIsSplitmix64) {
  EXPECT_EQ(mix_bits(1 * kMixStep), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(mix_bits(2 * kMixStep), 0x6e789e6aa1b965f4ULL);
  EXPECT_EQ(mix_bits(3 * kMixStep), 0x06c45d188009454fULL);
}

}  // namespace
}  // namespace vortex
