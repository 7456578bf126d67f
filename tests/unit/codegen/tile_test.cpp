// Tile primitives against plain double arithmetic: every shape class, poisoned buffers, guards behind the outputs.
#include "kernels/cpu/tile/tile.h"

#include <gtest/gtest.h>
// clang-format off
#include "kernels/cpu/targets.h"  // before any header of Highway
#include <hwy/targets.h>
// clang-format on

#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "base/float16.h"

namespace vortex::kernels::tile {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

// The tests run once for each instruction set that this machine has and the tiles are compiled for.
class Tile : public testing::TestWithParam<std::int64_t> {
 protected:
  void SetUp() override {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
  void TearDown() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  }
};
INSTANTIATE_TEST_SUITE_P(Sets, Tile, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()),
                         [](const auto& set) { return hwy::TargetName(set.param); });

struct Summaries {
  std::vector<std::uint16_t> bits;
  std::vector<float> values;
  std::vector<std::int32_t> pages;
};

// [physical pages, elements], every second physical page poisoned with NaN and never named.
Summaries make_summaries(std::int64_t count, std::int64_t elements, std::mt19937& random) {
  std::normal_distribution<float> normal;
  Summaries out;
  std::int64_t physical = 2 * count + 1;
  out.values.assign(static_cast<std::size_t>(physical * elements), kNan);
  for (std::int64_t p = 0; p < count; ++p) out.pages.push_back(static_cast<std::int32_t>(2 * p + 1));
  std::shuffle(out.pages.begin(), out.pages.end(), random);
  for (std::int32_t page : out.pages)
    for (std::int64_t e = 0; e < elements; ++e)
      out.values[static_cast<std::size_t>(page * elements + e)] = to_float(to_bfloat16(normal(random)));
  for (float value : out.values) out.bits.push_back(to_bfloat16(value).bits);
  return out;
}

TEST_P(Tile, ContractionOfSummariesIsTheSumOfProducts) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (Storage storage : {Storage::bf16, Storage::f32}) {
    for (std::int64_t dim : {1, 3, 16, 31, 32, 64, 80, 96, 127, 128, 256}) {
      for (std::int64_t heads : {1, 2, 3, 5, 8}) {
        for (std::int64_t count : {1, 15, 16, 17, 100}) {
          const std::int64_t vectors = dim < 32 ? 3 : 1, elements = vectors * dim, stride = (count + 15) / 16 * 16 + 16;
          Summaries summaries = make_summaries(count, elements, random);
          std::vector<float> q(static_cast<std::size_t>(heads * dim));
          for (float& x : q) x = normal(random);
          std::vector<float> packed(static_cast<std::size_t>(packed_floats(heads, dim)), kNan);
          pack_queries(q.data(), heads, dim, storage, packed.data());
          std::vector<float> out(static_cast<std::size_t>(heads * vectors * stride), 777.0f);
          Arena arena{
              storage == Storage::bf16 ? static_cast<const void*>(summaries.bits.data()) : summaries.values.data(),
              storage,
              elements,
              summaries.pages.data(),
              count,
              count};
          const SummaryRow row{0, packed.data(), out.data()};
          contract_summary(arena, {heads, vectors, dim, dim, vectors * stride, stride}, std::span(&row, 1));
          for (std::int64_t h = 0; h < heads; ++h) {
            for (std::int64_t v = 0; v < vectors; ++v) {
              const float* run = out.data() + (h * vectors + v) * stride;
              for (std::int64_t p = 0; p < count; ++p) {
                double expected = 0, size = 0;
                for (std::int64_t d = 0; d < dim; ++d) {
                  double term = static_cast<double>(q[static_cast<std::size_t>(h * dim + d)]) *
                                summaries.values[static_cast<std::size_t>(
                                    summaries.pages[static_cast<std::size_t>(p)] * elements + v * dim + d)];
                  expected += term;
                  size += std::abs(term);
                }
                ASSERT_NEAR(run[p], expected, 2e-6 * size + 1e-30)
                    << "dim " << dim << " heads " << heads << " page " << p << " of " << count;
              }
              for (std::int64_t p = (count + 15) / 16 * 16; p < stride; ++p) ASSERT_EQ(run[p], 777.0f) << "guard";
            }
          }
        }
      }
    }
  }
}

TEST_P(Tile, ScoreOfAPageDoesNotDependOnItsPlaceInAChunk) {
  std::mt19937 random(8);
  const std::int64_t dim = 80, heads = 3, count = 61;
  Summaries summaries = make_summaries(count, dim, random);
  std::vector<float> q(heads * dim), packed(static_cast<std::size_t>(packed_floats(heads, dim)));
  std::normal_distribution<float> normal;
  for (float& x : q) x = normal(random);
  pack_queries(q.data(), heads, dim, Storage::bf16, packed.data());
  std::vector<float> whole(heads * 64), part(heads * 64);
  Arena arena{summaries.bits.data(), Storage::bf16, dim, summaries.pages.data(), count, count};
  const SummaryRow all{0, packed.data(), whole.data()};
  contract_summary(arena, {heads, 1, dim, dim, 64, 64}, std::span(&all, 1));
  for (std::int64_t begin = 0; begin < count; ++begin) {
    Arena rest{summaries.bits.data(), Storage::bf16, dim, summaries.pages.data() + begin, count - begin, count - begin};
    const SummaryRow row{0, packed.data(), part.data()};
    contract_summary(rest, {heads, 1, dim, dim, 64, 64}, std::span(&row, 1));
    for (std::int64_t h = 0; h < heads; ++h)
      for (std::int64_t p = begin; p < count; ++p) ASSERT_EQ(part[h * 64 + p - begin], whole[h * 64 + p]);
  }
}

TEST_P(Tile, RowsGoThroughThePagesTogetherAsOneByOne) {
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (std::int64_t dim : {64, 128, 80}) {
    const std::int64_t rows = 3, heads = 5, vectors = 2, count = 61, elements = rows * vectors * dim;
    Summaries summaries = make_summaries(count, elements, random);
    std::vector<std::vector<float>> packed, alone, together;
    const Arena arena{summaries.bits.data(), Storage::bf16, elements, summaries.pages.data(), count, count};
    const SummaryContraction shape{heads, vectors, dim, dim, vectors * 64, 64};
    std::vector<SummaryRow> all;
    for (std::int64_t r = 0; r < rows; ++r) {
      std::vector<float> q(static_cast<std::size_t>(heads * dim));
      for (float& x : q) x = normal(random);
      packed.emplace_back(static_cast<std::size_t>(packed_floats(heads, dim)));
      pack_queries(q.data(), heads, dim, Storage::bf16, packed.back().data());
      alone.emplace_back(static_cast<std::size_t>(heads * vectors * 64), 777.0f);
      together.push_back(alone.back());
    }
    for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
      SummaryRow row{static_cast<std::int64_t>(r) * vectors * dim, packed[r].data(), alone[r].data()};
      contract_summary(arena, shape, std::span(&row, 1));
      row.out = together[r].data();
      all.push_back(row);
    }
    contract_summary(arena, shape, all);
    EXPECT_EQ(alone, together) << "dim " << dim;
  }
}

TEST_P(Tile, GatherTurnsCandidatesIntoLanes) {
  std::mt19937 random(9);
  for (std::int64_t elements : {1, 7, 8, 20, 64}) {
    for (std::int64_t count : {1, 16, 33}) {
      Summaries summaries = make_summaries(count, elements, random);
      for (Storage storage : {Storage::bf16, Storage::f32}) {
        std::vector<float> out(static_cast<std::size_t>(elements * 64), 777.0f);
        gather({storage == Storage::bf16 ? static_cast<const void*>(summaries.bits.data()) : summaries.values.data(),
                storage, elements, summaries.pages.data(), count, count},
               elements, out.data(), 64);
        for (std::int64_t e = 0; e < elements; ++e) {
          for (std::int64_t p = 0; p < count; ++p)
            ASSERT_EQ(
                out[static_cast<std::size_t>(e * 64 + p)],
                summaries
                    .values[static_cast<std::size_t>(summaries.pages[static_cast<std::size_t>(p)] * elements + e)]);
          for (std::int64_t p = (count + 15) / 16 * 16; p < 64; ++p)
            ASSERT_EQ(out[static_cast<std::size_t>(e * 64 + p)], 777.0f);
        }
      }
    }
  }
}

TEST_P(Tile, FoldsDoNotDependOnHowTheRowIsCut) {
  std::mt19937 random(10);
  std::normal_distribution<float> normal;
  std::vector<float> row(333 + kPadding, kNan);
  for (int i = 0; i < 333; ++i) row[static_cast<std::size_t>(i)] = normal(random);
  for (Fold op : {Fold::sum, Fold::max, Fold::min, Fold::sum_of_squares}) {
    float whole[kLanes], parts[kLanes];
    const float* run = row.data();
    fold_begin(op, whole);
    fold(op, std::span(&run, 1), 333, whole);
    fold_begin(op, parts);
    for (int begin = 0; begin < 333; begin += 48) {
      run = row.data() + begin;
      fold(op, std::span(&run, 1), std::min(48, 333 - begin), parts);
    }
    EXPECT_EQ(fold_end(op, whole), fold_end(op, parts));
    // Several runs side by side, each cut to another beginning.
    for (std::size_t several = 2; several <= 7; ++several) {
      std::vector<float> alone(several * kLanes), together(several * kLanes);
      std::vector<const float*> runs;
      for (std::size_t r = 0; r < several; ++r) {
        runs.push_back(row.data() + r);
        fold_begin(op, alone.data() + r * kLanes);
        fold_begin(op, together.data() + r * kLanes);
        fold(op, std::span(&runs[r], 1), 300, alone.data() + r * kLanes);
      }
      fold(op, runs, 300, together.data());
      EXPECT_EQ(alone, together);
    }
    double expected = op == Fold::max ? -kInf : op == Fold::min ? kInf : 0;
    for (int i = 0; i < 333; ++i) {
      double x = row[static_cast<std::size_t>(i)];
      expected = op == Fold::max   ? std::fmax(expected, x)
                 : op == Fold::min ? std::fmin(expected, x)
                 : op == Fold::sum ? expected + x
                                   : expected + x * x;
    }
    EXPECT_NEAR(fold_end(op, whole), expected, 1e-4);
  }
}

// One op on one vector's worth of values.
std::vector<float> apply(Map op, std::vector<float> a, std::vector<float> b = {}, std::vector<float> parameters = {}) {
  const std::size_t count = a.size();
  a.resize(count + kPadding, kNan);
  b.resize(count + kPadding, kNan);
  Input inputs[3] = {{a.data()}, {b.data()}, {b.data()}};
  std::vector<float> out(count + 4, 777.0f);
  Nest nest;
  nest.lanes = static_cast<std::int64_t>(count);
  map(op, nest, inputs, {out.data()}, parameters.data());
  for (std::size_t i = count; i < out.size(); ++i) EXPECT_EQ(out[i], 777.0f) << "guard";
  out.resize(count);
  return out;
}

TEST_P(Tile, EdgesOfElementaryFunctions) {
  std::vector<float> edges = {0.0f,   -0.0f,  kInf,    -kInf,   kNan, 1e-40f, 88.0f, 88.72f, 89.0f,
                              200.0f, -87.0f, -103.0f, -110.0f, 1.0f, -1.0f,  1e30f, -1e30f};
  auto check = [&](Map op, auto reference, double bound) {
    std::vector<float> out = apply(op, edges);
    for (std::size_t i = 0; i < edges.size(); ++i) {
      const float expected = static_cast<float>(reference(static_cast<double>(edges[i])));
      if (std::isnan(expected)) {
        EXPECT_TRUE(std::isnan(out[i])) << "op " << static_cast<int>(op) << " of " << edges[i] << " is " << out[i];
      } else if (std::isinf(expected)) {
        EXPECT_EQ(out[i], expected) << "op " << static_cast<int>(op) << " of " << edges[i];
      } else {
        EXPECT_NEAR(out[i], expected, bound * std::abs(expected) + 1e-37)
            << "op " << static_cast<int>(op) << " of " << edges[i];
      }
    }
  };
  check(
      Map::exp, [](double x) { return std::exp(x); }, 3e-7);
  check(
      Map::log, [](double x) { return std::log(x); }, 3e-7);
  check(
      Map::tanh, [](double x) { return std::tanh(x); }, 3e-7);
  check(
      Map::sqrt, [](double x) { return std::sqrt(x); }, 1e-7);
  check(
      Map::rsqrt, [](double x) { return 1 / std::sqrt(x); }, 3e-7);
  check(
      Map::sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, 5e-7);
  check(
      Map::silu, [](double x) { return x / (1 + std::exp(-x)); }, 5e-7);
  check(
      Map::relu, [](double x) { return x > 0 ? x : 0.0; }, 0);
}

TEST_P(Tile, NanYieldsInMaximumAndMinimum) {
  EXPECT_EQ(apply(Map::maximum, {kNan, 1, 2}, {3, kNan, 5}), (std::vector<float>{3, 1, 5}));
  EXPECT_EQ(apply(Map::minimum, {kNan, 1, 2}, {3, kNan, 5}), (std::vector<float>{3, 1, 2}));
  EXPECT_EQ(apply(Map::clamp, {kNan, -9, 9, 0.5f}, {}, {-1, 1}), (std::vector<float>{-1, -1, 1, 0.5f}));
  EXPECT_EQ(apply(Map::less, {kNan, 1, 2}, {3, kNan, 5}), (std::vector<float>{0, 0, 1}));
}

TEST_P(Tile, BroadcastAndStridedRuns) {
  // out[i, j] = a[j, i] - b[i]: a transposed run, a broadcast one, and lanes past one block.
  const std::int64_t rows = 5, lanes = 300;
  std::vector<float> a(rows * lanes + kPadding), b(rows + kPadding), out(rows * lanes);
  std::iota(a.begin(), a.end(), 0.0f);
  std::iota(b.begin(), b.end(), 0.5f);
  Nest nest;
  nest.rank = 1;
  nest.extent[0] = rows;
  nest.lanes = lanes;
  Input inputs[2] = {{a.data(), {1}, rows}, {b.data(), {1}, 0}};
  map(Map::sub, nest, inputs, {out.data(), {lanes}}, nullptr);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < lanes; ++j)
      ASSERT_EQ(out[static_cast<std::size_t>(i * lanes + j)],
                static_cast<float>(j * rows + i) - (static_cast<float>(i) + 0.5f));
}

TEST_P(Tile, RoundsToNearestEven) {
  std::vector<float> values = {1.0f, 1.00390625f, 1.01171875f, -2.5f, 3.0e38f};
  std::vector<std::uint16_t> bits(values.size());
  narrow(values.data(), static_cast<std::int64_t>(values.size()), bits.data());
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_EQ(bits[i], to_bfloat16(values[i]).bits);
  EXPECT_EQ(bits[1], to_bfloat16(1.0f).bits) << "a tie goes to the even neighbour";
}

}  // namespace
}  // namespace vortex::kernels::tile
