// Weights in fp8: every value, the blocks' edges, and scales that do not fit.
#include "models/fp8.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include <cmath>
#include <numeric>
#include <string>
#include <vector>

namespace vortex::models {
namespace {

TEST(Fp8, EveryByteIsItsValue) {
  for (int byte = 0; byte < 256; ++byte) {
    const float got = fp8_to_float(static_cast<std::uint8_t>(byte));
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    if ((byte & 127) == 127) {
      EXPECT_TRUE(std::isnan(got));
      continue;
    }
    const double size = exponent > 0 ? (1 + mantissa / 8.0) * std::pow(2.0, exponent - 7) : mantissa / 8.0 / 64;
    EXPECT_EQ(got, byte < 128 ? size : -size) << byte;
  }
  EXPECT_EQ(fp8_to_float(0x7e), 448.0f);
}

TEST(Fp8, EachBlockHasItsScale) {
  std::vector<std::uint8_t> data(5 * 7);
  std::iota(data.begin(), data.end(), std::uint8_t{40});
  const std::vector<float> scales = {1, 2, 4, 8, 16, 32};  // [2, 3] for blocks of [3, 3]
  std::vector<BFloat16> out(data.size());
  Fp8Matrix matrix{data.data(), 5, 7, scales.data(), 2, 3, 3, 3};
  fp8_to_bfloat16(matrix, out.data());
  for (std::size_t r = 0; r < 5; ++r)
    for (std::size_t c = 0; c < 7; ++c)
      EXPECT_EQ(to_float(out[r * 7 + c]), fp8_to_float(data[r * 7 + c]) * scales[r / 3 * 3 + c / 3]);
}

TEST(Fp8, ScalesThatDoNotFitAreRefused) {
  const std::uint8_t byte = 0;
  const float scale = 1;
  BFloat16 out;
  auto refusal = [&](std::int64_t scale_rows, std::int64_t block_rows) -> std::string {
    try {
      fp8_to_bfloat16({&byte, 1, 1, &scale, scale_rows, 1, block_rows, 1}, &out);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(refusal(1, 4), "accepted");
  EXPECT_EQ(refusal(2, 1),
            "[fp8] scales [1, 1] for blocks of [1, 1]; got [2, 1]; check the file's quantisation settings");
  EXPECT_NE(refusal(0, 0).find("scales [0, 1] for blocks of [0, 1]; got [0, 1]"), std::string::npos);
}

}  // namespace
}  // namespace vortex::models
