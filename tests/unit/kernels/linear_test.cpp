// Linears on every instruction set this machine runs: against double precision, and bit for bit against each other,
// over numbers of tokens, threads and instruction sets.
#include "kernels/cpu/linear.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include <algorithm>
#include <cstring>

#include "base/text.h"
#include "kernels/cpu/isa.h"
#include "random_weights.h"

namespace vortex::kernels {
namespace {

using testing::random_floats;
using testing::random_matrix;
using testing::RandomMatrix;

constexpr auto& kFormats = kWeightFormats;

class EveryIsa : public ::testing::Test {
 protected:
  void SetUp() override { before_ = active_isa(); }
  void TearDown() override { use_isa(before_); }
  Isa before_ = Isa::portable;
};
using Linear = EveryIsa;

bool is_integer(WeightFormat format) { return testing::block_shape(format).columns > 1; }
std::int64_t block_columns(WeightFormat format) { return testing::block_shape(format).columns; }

// x as the kernels see it: one or two int8 and a scale per 16 columns for integer weights.
std::vector<double> seen(const float* x, std::int64_t columns, WeightFormat format, Activations activations) {
  std::vector<double> out(x, x + columns);
  if (!is_integer(format)) return out;
  for (std::int64_t b = 0; b < columns; b += 16) {
    float largest = 0;
    for (int i = 0; i < 16; ++i) largest = std::max(largest, std::abs(x[b + i]));
    const double step = static_cast<double>(largest / 127.0f);
    for (int i = 0; i < 16; ++i) {
      const double q = largest == 0 ? 0.0 : static_cast<double>(std::nearbyint(x[b + i] * (127.0f / largest)));
      const double left = static_cast<double>(x[b + i]) - q * step;
      const double r = largest == 0 || activations == Activations::int8 ? 0.0 : std::nearbyint(left / step * 254.0);
      out[static_cast<std::size_t>(b + i)] = (q + r / 254.0) * step;
    }
  }
  return out;
}

std::vector<float> run(const PackedLinear& linear, const std::vector<float>& x, std::int64_t tokens, const float* bias,
                       ThreadPool& pool) {
  std::vector<float> y(static_cast<std::size_t>(tokens * linear.rows()) + 1, -7.5f);
  linear.run(x.data(), linear.columns(), y.data(), linear.rows(), tokens, bias, pool);
  EXPECT_EQ(y.back(), -7.5f) << "wrote past the last output";
  y.pop_back();
  return y;
}

TEST_F(Linear, MatchesDoublePrecision) {
  std::mt19937_64 random(1);
  ThreadPool pool(2);
  for (WeightFormat format : kFormats)
    for (auto [rows, some] : {std::pair<std::int64_t, std::int64_t>{1, 32}, {16, 64}, {37, 160}, {70, 320}}) {
      const std::int64_t block = block_columns(format), columns = (some + block - 1) / block * block;
      const RandomMatrix matrix = random_matrix(format, rows, columns, random);
      const WeightView view = matrix.view();
      for (std::int64_t tokens : {1, 2, 3, 5, 8, 13}) {
        const std::vector<float> x = random_floats(tokens * columns, random), bias = random_floats(rows, random);
        for (Activations activations : {Activations::int8, Activations::int8_twice}) {
          auto linear = PackedLinear::pack({&view, 1}, pool, activations);
          std::vector<double> expected, bounds;
          for (std::int64_t t = 0; t < tokens; ++t) {
            const std::vector<double> input = seen(x.data() + t * columns, columns, format, activations);
            for (std::int64_t r = 0; r < rows; ++r) {
              double sum = static_cast<double>(bias[static_cast<std::size_t>(r)]), size = std::abs(sum), lost = 0;
              for (std::int64_t c = 0; c < columns; ++c) {
                const double w = matrix.values[static_cast<std::size_t>(r * columns + c)];
                const double term = w * input[static_cast<std::size_t>(c)];
                sum += term;
                size += std::abs(term);
                lost += std::abs(w * (input[static_cast<std::size_t>(c)] -
                                      static_cast<double>(x[static_cast<std::size_t>(t * columns + c)])));
              }
              ASSERT_LE(lost, (activations == Activations::int8 ? 0.01 : 0.00005) * size)
                  << "quantising the activations costs at most 1 %, twice 0.005 %";
              expected.push_back(sum);
              // A rounding tie of the second term may fall to the other side: 1 / 254 of a step.
              bounds.push_back((activations == Activations::int8 ? 1.5e-6 : 6e-6) * size + 1e-30);
            }
          }
          for (Isa isa : runnable_isas()) {
            use_isa(isa);
            const std::vector<float> y = run(*linear, x, tokens, bias.data(), pool);
            for (std::size_t i = 0; i < y.size(); ++i)
              ASSERT_NEAR(static_cast<double>(y[i]), expected[i], bounds[i])
                  << name_of(isa) << " " << name_of(format) << " [" << rows << ", " << columns << "] output " << i
                  << " of " << tokens << " tokens";
          }
        }
      }
    }
}

TEST_F(Linear, BitsDoNotDependOnTokensThreadsOrInstructionSet) {
  std::mt19937_64 random(2);
  ThreadPool one(1), three(3);
  constexpr std::int64_t rows = 410, tokens = 21;
  for (WeightFormat format : kFormats)
    for (Activations activations : {Activations::int8, Activations::int8_twice}) {
      const std::int64_t columns = std::max<std::int64_t>(96, block_columns(format));
      const RandomMatrix matrix = random_matrix(format, rows, columns, random);
      const std::vector<float> x = random_floats(tokens * columns, random);
      const WeightView view = matrix.view();
      auto linear = PackedLinear::pack({&view, 1}, three, activations);
      use_isa(Isa::portable);
      const std::vector<float> expected = run(*linear, x, tokens, nullptr, one);
      for (Isa isa : runnable_isas()) {
        use_isa(isa);
        for (ThreadPool* pool : {&one, &three})
          for (std::int64_t chunk :
               {std::int64_t{1}, std::int64_t{2}, std::int64_t{3}, std::int64_t{7}, std::int64_t{12}, tokens})
            for (std::int64_t t = 0; t < tokens; t += chunk) {
              const std::int64_t n = std::min(chunk, tokens - t);
              std::vector<float> y(static_cast<std::size_t>(n * rows));
              linear->run(x.data() + t * columns, columns, y.data(), rows, n, nullptr, *pool);
              ASSERT_EQ(std::memcmp(y.data(), expected.data() + t * rows, y.size() * sizeof(float)), 0)
                  << name_of(isa) << " " << name_of(format) << " tokens " << t << " to " << t + n << ", "
                  << pool->threads() << " threads";
              if (chunk <= 3 && t >= 6) break;  // a few of the small ones show it
            }
      }
    }
}

TEST_F(Linear, StacksMatricesAndKeepsStrides) {
  std::mt19937_64 random(3);
  ThreadPool pool(2);
  for (Isa isa : runnable_isas())
    for (WeightFormat format : kFormats) {
      use_isa(isa);
      constexpr std::int64_t tokens = 3, x_stride = 261;
      const std::int64_t columns = std::max<std::int64_t>(96, block_columns(format));
      const RandomMatrix a = random_matrix(format, 21, columns, random), b = random_matrix(format, 10, columns, random);
      const WeightView both[] = {a.view(), b.view()};
      auto stacked = PackedLinear::pack(both, pool), first = PackedLinear::pack({both, 1}, pool),
           second = PackedLinear::pack({both + 1, 1}, pool);
      EXPECT_EQ(stacked->rows(), 31);
      // A super-block's scales take a byte each, two of them 12 bits in a file.
      const std::int64_t more = format == WeightFormat::q4_k || format == WeightFormat::q5_k ? 4 : 0;
      EXPECT_EQ(stacked->bytes(), 2 * 16 * (row_bytes(format, columns) + more * columns / 256));
      const std::vector<float> x = random_floats(tokens * x_stride, random);
      constexpr std::int64_t y_stride = 40;
      std::vector<float> y(tokens * y_stride, 99.0f), y1(tokens * 21), y2(tokens * 10);
      stacked->run(x.data(), x_stride, y.data(), y_stride, tokens, nullptr, pool);
      first->run(x.data(), x_stride, y1.data(), 21, tokens, nullptr, pool);
      second->run(x.data(), x_stride, y2.data(), 10, tokens, nullptr, pool);
      for (std::int64_t t = 0; t < tokens; ++t)
        for (std::int64_t r = 0; r < y_stride; ++r) {
          const float expected = r < 21   ? y1[static_cast<std::size_t>(t * 21 + r)]
                                 : r < 31 ? y2[static_cast<std::size_t>(t * 10 + r - 21)]
                                          : 99.0f;
          ASSERT_EQ(y[static_cast<std::size_t>(t * y_stride + r)], expected) << name_of(format) << " row " << r;
        }
    }
}

TEST_F(Linear, OddColumnsOfFloats) {
  std::mt19937_64 random(4);
  ThreadPool pool(1);
  for (Isa isa : runnable_isas())
    for (WeightFormat format : {WeightFormat::f32, WeightFormat::f16, WeightFormat::bf16}) {
      use_isa(isa);
      const RandomMatrix matrix = random_matrix(format, 5, 7, random);
      const std::vector<float> x = random_floats(7, random);
      const WeightView view = matrix.view();
      const std::vector<float> y = run(*PackedLinear::pack({&view, 1}, pool), x, 1, nullptr, pool);
      for (std::size_t r = 0; r < 5; ++r) {
        double sum = 0;
        for (std::size_t c = 0; c < 7; ++c) sum += matrix.values[r * 7 + c] * static_cast<double>(x[c]);
        EXPECT_NEAR(static_cast<double>(y[r]), sum, 1e-6);
      }
    }
}

// Zeros, numbers too small or too large for a scale, and NaN: nothing crashes, and what is not a number is seen.
TEST_F(Linear, StrangeActivations) {
  std::mt19937_64 random(5);
  ThreadPool pool(1);
  for (Isa isa : runnable_isas())
    for (WeightFormat format : kFormats) {
      if (!is_integer(format)) continue;
      for (Activations activations : {Activations::int8, Activations::int8_twice}) {
        use_isa(isa);
        const std::size_t n = static_cast<std::size_t>(std::max<std::int64_t>(64, block_columns(format)));
        const RandomMatrix matrix = random_matrix(format, 16, static_cast<std::int64_t>(n), random);
        const WeightView view = matrix.view();
        auto linear = PackedLinear::pack({&view, 1}, pool, activations);
        std::vector<float> x(5 * n, 0.0f);
        x[n] = 1e-40f;
        x[2 * n] = std::numeric_limits<float>::infinity();
        x[3 * n + 40] = std::numeric_limits<float>::quiet_NaN();
        x[4 * n] = 1e30f;
        const std::vector<float> y = run(*linear, x, 5, nullptr, pool);
        for (std::size_t r = 0; r < 16; ++r) {
          EXPECT_EQ(y[r], 0.0f);
          EXPECT_EQ(y[16 + r], 0.0f);
          EXPECT_TRUE(std::isnan(y[32 + r])) << name_of(isa) << " " << name_of(format);
          EXPECT_TRUE(std::isnan(y[48 + r]));
          EXPECT_TRUE(std::isfinite(y[64 + r]));
        }
      }
    }
}

// Scales and minima that are NaN, infinite or the largest there are, in memory that ends with the matrix: whatever
// comes, it comes without a crash, the same on every instruction set.
TEST_F(Linear, HostileBlocks) {
  std::mt19937_64 random(8);
  ThreadPool pool(2);
  for (WeightFormat format : kFormats)
    for (auto [rows, blocks, tokens] :
         {std::tuple<std::int64_t, std::int64_t, std::int64_t>{33, 1, 3}, {1, 3, 1}, {15, 2, 9}}) {
      const std::int64_t columns = blocks * std::max<std::int64_t>(32, block_columns(format));
      std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * row_bytes(format, columns)));
      const std::vector<float> x = random_floats(tokens * columns, random);
      for (int round = 0; round < 3; ++round) {
        for (std::uint8_t& byte : bytes)
          byte = round == 0 ? 0xff : round == 1 ? 0x7b : static_cast<std::uint8_t>(random());
        const WeightView view{format, bytes.data(), rows, columns};
        auto linear = PackedLinear::pack({&view, 1}, pool);
        std::vector<float> expected;
        for (Isa isa : runnable_isas()) {
          use_isa(isa);
          std::vector<float> y = run(*linear, x, tokens, nullptr, pool);
          for (float& value : y)
            if (std::isnan(value)) value = 12345.0f;
          if (expected.empty()) expected = y;
          ASSERT_EQ(y, expected) << name_of(isa) << " " << name_of(format) << " round " << round;
        }
        std::vector<float> row(static_cast<std::size_t>(columns));
        const std::int32_t last = static_cast<std::int32_t>(rows - 1);
        gather_rows(view, &last, 1, row.data(), pool);
      }
    }
}

TEST(GatherRows, DecodesEveryFormatExactly) {
  std::mt19937_64 random(6);
  ThreadPool pool(2);
  for (WeightFormat format : kFormats) {
    const std::int64_t columns = std::max<std::int64_t>(64, block_columns(format));
    const RandomMatrix matrix = random_matrix(format, 50, columns, random);
    std::vector<std::int32_t> tokens;
    for (std::int32_t t = 0; t < 40; ++t) tokens.push_back(t * 37 % 50);
    const std::size_t n = static_cast<std::size_t>(columns);
    std::vector<float> out(tokens.size() * n);
    gather_rows(matrix.view(), tokens.data(), static_cast<std::int64_t>(tokens.size()), out.data(), pool);
    for (std::size_t t = 0; t < tokens.size(); ++t)
      for (std::size_t c = 0; c < n; ++c) {
        const double expected = matrix.values[static_cast<std::size_t>(tokens[t]) * n + c];
        ASSERT_NEAR(static_cast<double>(out[t * n + c]), expected, 1e-6 * std::abs(expected) + 1e-7) << name_of(format);
      }
  }
}

template <class Call>
std::string words_of(Call&& call) {
  try {
    call();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(LinearErrors, Words) {
  ThreadPool pool(1);
  std::vector<std::uint8_t> data(4096);
  auto pack = [&](std::vector<WeightView> views) { return words_of([&] { PackedLinear::pack(views, pool); }); };
  EXPECT_EQ(pack({{WeightFormat::q4_1, data.data(), 4, 48}}),
            "[linear] q4_1 rows of a multiple of 32 columns; got 48 columns; store this weight as f16 or bf16");
  EXPECT_EQ(pack({{WeightFormat::q8_0, data.data(), 4, 0}}),
            "[linear] q8_0 rows of a multiple of 32 columns; got 0 columns; store this weight as f16 or bf16");
  EXPECT_EQ(pack({{WeightFormat::q6_k, data.data(), 4, 128}}),
            "[linear] q6_k rows of a multiple of 256 columns; got 128 columns; store this weight as f16 or bf16");
  EXPECT_EQ(
      pack({{WeightFormat::q4_k, data.data(), 4, std::int64_t{1} << 62}}),
      "[linear] q4_k rows of a multiple of 256 columns; got 4611686018427387904 columns; store this weight as f16 "
      "or bf16");
  EXPECT_EQ(pack({{WeightFormat::f32, data.data(), std::int64_t{1} << 60, 32}}),
            "[linear] a matrix that fits an address space; got f32 [1152921504606846976, 32]; the weight file is "
            "damaged, fetch it again");
  EXPECT_EQ(pack({{WeightFormat::f32, data.data(), 4, -1}}),
            "[linear] rows of at least one column; got -1 columns; check the shape of the weight");
  EXPECT_EQ(pack({{WeightFormat::f32, nullptr, 4, 8}}),
            "[linear] a matrix with data and at least one row; got f32 [4, 8] without data; check that the weight file "
            "is complete");
  EXPECT_EQ(pack({{WeightFormat::f32, data.data(), 0, 8}}),
            "[linear] a matrix with data and at least one row; got f32 [0, 8]; check that the weight file is complete");
  EXPECT_EQ(
      pack({{WeightFormat::f32, data.data(), 4, 32}, {WeightFormat::q8_0, data.data(), 2, 32}}),
      "[linear] matrices of one format and one number of columns to stack; matrix 0 is f32 [4, 32], matrix 1 is q8_0 "
      "[2, 32]; pack them one by one");
  EXPECT_EQ(
      pack({{WeightFormat::f32, data.data(), 4, 32}, {WeightFormat::f32, data.data(), 2, 64}}),
      "[linear] matrices of one format and one number of columns to stack; matrix 0 is f32 [4, 32], matrix 1 is f32 "
      "[2, 64]; pack them one by one");
  EXPECT_EQ(pack({}), "[linear] at least one matrix to pack; got none; pass the weights of the layer");

  std::vector<float> out(64);
  auto gather = [&](std::int32_t token) {
    return words_of([&] { gather_rows({WeightFormat::q8_0, data.data(), 4, 32}, &token, 1, out.data(), pool); });
  };
  EXPECT_EQ(gather(4),
            "[gather_rows] tokens in [0, 4); got 4 at index 0; check that the tokenizer belongs to the model");
  EXPECT_EQ(gather(-1),
            "[gather_rows] tokens in [0, 4); got -1 at index 0; check that the tokenizer belongs to the model");
}

TEST(IsaErrors, Words) {
  std::string names;
  for (Isa isa : runnable_isas()) names += (names.empty() ? "" : ", ") + std::string(name_of(isa));
  EXPECT_EQ(words_of([] { isa_of("avx1024"); }), concat("[VORTEX_ISA] an instruction set this processor runs: ", names,
                                                        "; got 'avx1024'; change or unset the environment variable"));
  EXPECT_EQ(isa_of("portable"), Isa::portable);
}

}  // namespace
}  // namespace vortex::kernels
