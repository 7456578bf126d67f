// The float kernels against double precision, on every instruction set this machine runs,
// over widths that do not fill vectors, and over threads.
#include "kernels/cpu/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>

#include "kernels/cpu/isa.h"
#include "random_weights.h"

namespace vortex::kernels {
namespace {

using testing::random_floats;

double at(const std::vector<float>& values, std::int64_t i) {
  return static_cast<double>(values[static_cast<std::size_t>(i)]);
}

class Elementwise : public ::testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    before_ = active_isa();
    use_isa(GetParam());
  }
  void TearDown() override { use_isa(before_); }
  Isa before_ = Isa::portable;
};

INSTANTIATE_TEST_SUITE_P(On, Elementwise, ::testing::ValuesIn(runnable_isas().begin(), runnable_isas().end()),
                         [](const auto& row) { return std::string(name_of(row.param)); });

TEST_P(Elementwise, RmsNorm) {
  std::mt19937_64 random(1);
  ThreadPool pool(2);
  for (std::int64_t width : {1, 5, 16, 64, 576, 1003})
    for (std::int64_t tokens : {1, 3, 70}) {
      const std::vector<float> x = random_floats(tokens * width, random, 3.0f), weight = random_floats(width, random);
      std::vector<float> out(x.size());
      rms_norm(x.data(), weight.data(), 1e-5f, out.data(), tokens, width, pool);
      for (std::int64_t t = 0; t < tokens; ++t) {
        double sum = 0;
        for (std::int64_t i = 0; i < width; ++i) sum += at(x, t * width + i) * at(x, t * width + i);
        const double factor = 1 / std::sqrt(sum / static_cast<double>(width) + static_cast<double>(1e-5f));
        for (std::int64_t i = 0; i < width; ++i) {
          const double expected = at(x, t * width + i) * factor * at(weight, i);
          ASSERT_NEAR(at(out, t * width + i), expected, 1e-6 * std::abs(expected)) << width << " " << t << " " << i;
        }
      }
      std::vector<float> in_place = x;
      rms_norm(in_place.data(), weight.data(), 1e-5f, in_place.data(), tokens, width, pool);
      EXPECT_EQ(in_place, out);
    }
}

TEST_P(Elementwise, RopeBothLayouts) {
  std::mt19937_64 random(2);
  ThreadPool pool(2);
  for (RopeLayout layout : {RopeLayout::halves, RopeLayout::pairs})
    for (auto [head_dim, half] : {std::pair<std::int64_t, std::int64_t>{64, 32}, {64, 16}, {24, 12}, {6, 3}}) {
      constexpr std::int64_t heads = 3, tokens = 5;
      const std::int64_t stride = heads * head_dim + 7;
      const std::vector<float> before = random_floats(tokens * stride, random);
      std::vector<float> x = before, frequency;
      for (std::int64_t i = 0; i < half; ++i)
        frequency.push_back(
            static_cast<float>(std::pow(100000.0, -static_cast<double>(i) / static_cast<double>(half))));
      const std::vector<std::int32_t> positions = {0, 1, 77, 8191, 1000000};
      RopeAngles angles;
      angles.fill(positions.data(), tokens, frequency.data(), half);
      rope(x.data(), stride, heads, head_dim, layout, angles, tokens, pool);
      for (std::int64_t t = 0; t < tokens; ++t) {
        std::vector<double> expected(before.begin() + t * stride, before.begin() + (t + 1) * stride);
        for (std::int64_t h = 0; h < heads; ++h)
          for (std::int64_t i = 0; i < half; ++i) {
            const double angle = static_cast<double>(positions[static_cast<std::size_t>(t)]) * at(frequency, i);
            const std::int64_t head = h * head_dim;
            const std::int64_t ia = layout == RopeLayout::halves ? head + i : head + 2 * i;
            const std::int64_t ib = layout == RopeLayout::halves ? head + half + i : head + 2 * i + 1;
            const double a = at(before, t * stride + ia), b = at(before, t * stride + ib);
            expected[static_cast<std::size_t>(ia)] = a * std::cos(angle) - b * std::sin(angle);
            expected[static_cast<std::size_t>(ib)] = b * std::cos(angle) + a * std::sin(angle);
          }
        for (std::int64_t i = 0; i < stride; ++i)  // the channels that do not rotate included
          ASSERT_NEAR(at(x, t * stride + i), expected[static_cast<std::size_t>(i)], 2e-6) << t << " " << i;
      }
    }
}

TEST_P(Elementwise, SwigluIsAccurateToAMillionth) {
  std::mt19937_64 random(3);
  ThreadPool pool(2);
  for (std::int64_t width : {1, 9, 1536, 20011})
    for (std::int64_t tokens : {1, 9}) {
      std::vector<float> gate_up = random_floats(2 * tokens * width, random, 8.0f);
      std::vector<float> out(static_cast<std::size_t>(tokens * width));
      swiglu(gate_up.data(), out.data(), tokens, width, pool);
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t i = 0; i < width; ++i) {
          const double gate = at(gate_up, 2 * t * width + i), up = at(gate_up, (2 * t + 1) * width + i);
          const double expected = gate / (1 + std::exp(-gate)) * up;
          ASSERT_NEAR(at(out, t * width + i), expected, 1e-6 * std::abs(expected)) << "gate " << gate;
        }
    }
  const float inf = std::numeric_limits<float>::infinity();
  const float strange[] = {-1000.0f, 1000.0f, 0.0f, inf, std::nanf(""), 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
  float out[5];
  swiglu(strange, out, 1, 5, pool);
  EXPECT_NEAR(out[0], 0.0f, 1e-30f);
  EXPECT_EQ(out[1], 1000.0f);
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[3], inf);
  EXPECT_TRUE(std::isnan(out[4]));
}

TEST_P(Elementwise, Add) {
  std::mt19937_64 random(4);
  ThreadPool pool(3);
  for (std::int64_t count : {1, 17, 8192, 50001}) {
    const std::vector<float> y = random_floats(count, random), before = random_floats(count, random);
    std::vector<float> x = before;
    add(x.data(), y.data(), count, pool);
    for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(x[i], before[i] + y[i]);
  }
}

// The bits of a token's result depend neither on the other tokens of the call nor on threads.
TEST_P(Elementwise, TokensAreIndependent) {
  std::mt19937_64 random(5);
  ThreadPool one(1), three(3);
  constexpr std::int64_t width = 580, tokens = 64;
  const std::vector<float> x = random_floats(tokens * 2 * width, random), weight = random_floats(width, random);
  std::vector<float> all(tokens * width), single(width);
  for (ThreadPool* pool : {&one, &three}) {
    swiglu(x.data(), all.data(), tokens, width, *pool);
    for (std::int64_t t = 0; t < tokens; ++t) {
      swiglu(x.data() + 2 * t * width, single.data(), 1, width, one);
      ASSERT_EQ(std::memcmp(single.data(), all.data() + t * width, sizeof(float) * width), 0);
    }
    rms_norm(x.data(), weight.data(), 1e-5f, all.data(), tokens, width, *pool);
    for (std::int64_t t = 0; t < tokens; ++t) {
      rms_norm(x.data() + t * width, weight.data(), 1e-5f, single.data(), 1, width, one);
      ASSERT_EQ(std::memcmp(single.data(), all.data() + t * width, sizeof(float) * width), 0);
    }
  }
}

}  // namespace
}  // namespace vortex::kernels
