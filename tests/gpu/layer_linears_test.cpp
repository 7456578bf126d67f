// The linears between two attentions in one kernel, against double precision on the operands' own bf16 values, with
// poisoned outputs; and the same bits in every replay of a graph of several launches.
#include "kernels/cuda/layer_linears.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>
#include <set>

#include "base/float16.h"
#include "gpu/open.h"
#include "kernels/cuda/linear.h"

namespace vortex::gpu_tests {
namespace {

using device::Array;

struct LayerCase {
  int count;
  std::int64_t width, q_width, ffn_width, qkv_width;
};
constexpr LayerCase kSmall{0, 2048, 1024, 2048, 3072}, kLarge{0, 2048, 2048, 6144, 4096},
    kWide{0, 2048, 1024, 8192, 5120};  // tiles of 64, 128 and 192 channels, one and two blocks each
constexpr LayerCase with(int count, LayerCase c) {
  c.count = count;
  return c;
}

std::size_t operand_at(std::int64_t row, std::int64_t column, std::int64_t rows) {
  return static_cast<std::size_t>((column / 64 * rows + row) * 64 + ((column % 64 / 8) ^ (row & 7)) * 8 + column % 8);
}

// A packed matrix on both sides.
struct Matrix {
  std::int64_t in, out, pack;
  Array<unsigned short> there;
  std::vector<unsigned short> here;

  Matrix(const std::shared_ptr<device::Device>& device, device::Stream& stream, const kernels::LinearHelpers& helpers,
         std::int64_t in_channels, std::int64_t out_channels, int tile, unsigned seed)
      : in(in_channels), out(out_channels), pack(tile), there(device, in * out) {
    helpers.random(stream,
                   {there.data(), in * out, seed, static_cast<float>(std::sqrt(3.0 / static_cast<double>(in)))});
    here = there.download(stream);
  }
  // Sums of a row of activations with every output channel.
  std::vector<double> multiply(const std::vector<double>& x) const {
    std::vector<double> sums(static_cast<std::size_t>(out));
    for (std::int64_t channel = 0; channel < out; ++channel) {
      const unsigned short* const tile = here.data() + channel / pack * pack * in;
      double sum = 0;
      for (std::int64_t i = 0; i < in; ++i)
        sum += static_cast<double>(to_float(BFloat16{tile[operand_at(channel % pack, i, pack)]})) *
               x[static_cast<std::size_t>(i)];
      sums[static_cast<std::size_t>(channel)] = sum;
    }
    return sums;
  }
};

// Normalised distance, and where two rows differ most.
struct Distance {
  double error = 0, size = 0, worst = 0, came = 0, wanted = 0;
  std::size_t at = 0;
  void add(std::size_t index, double got, double expected) {
    const double gap = std::abs(got - expected);
    error += gap * gap, size += expected * expected;
    if (!(gap <= worst)) worst = gap, came = got, wanted = expected, at = index;
  }
  double value() const { return std::sqrt(error / size); }
};

class LayerLinears : public ::testing::TestWithParam<LayerCase> {};

TEST_P(LayerLinears, AgreeWithDoublePrecisionInEveryReplay) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  if (device->architecture() != "sm_90a") GTEST_SKIP() << "the layer's kernel is compiled for sm_90a devices only";
  const LayerCase c = GetParam();
  const int rows = (c.count + 7) / 8 * 8, count = c.count;
  const auto stream = device->make_stream();
  const kernels::LinearHelpers helpers(*device);
  const auto layer = kernels::LayerLinears::make(*device, {.rows = rows,
                                                           .width = c.width,
                                                           .q_width = c.q_width,
                                                           .ffn_width = c.ffn_width,
                                                           .qkv_width = c.qkv_width,
                                                           .packs = {64, 128, 128, 64}});
  ASSERT_NE(layer, nullptr) << "no way to run it on " << device->describe();
  const Matrix output(device, *stream, helpers, c.q_width, c.width, 64, 1),
      gate_up(device, *stream, helpers, c.width, 2 * c.ffn_width, 128, 2),
      down(device, *stream, helpers, c.ffn_width, c.width, 128, 3),
      qkv(device, *stream, helpers, c.width, c.qkv_width, 64, 4);

  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const auto draw = [&](std::int64_t n, float middle, float size) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& value : values) value = middle + normal(random) * size;
    return values;
  };
  const std::vector<float> x = draw(count * c.q_width, 0, 1), residual = draw(count * c.width, 0, 1),
                           ffn_norm = draw(c.width, 1, 0.2f), next_norm = draw(c.width, 1, 0.2f);
  std::vector<unsigned short> attended(static_cast<std::size_t>(rows * c.q_width), 0);
  for (std::int64_t row = 0; row < count; ++row)
    for (std::int64_t i = 0; i < c.q_width; ++i)
      attended[operand_at(row, i, rows)] = to_bfloat16(x[static_cast<std::size_t>(row * c.q_width + i)]).bits;

  const auto there = device::upload(device, *stream, attended);
  const auto first_residual = device::upload(device, *stream, residual),
             norm = device::upload(device, *stream, ffn_norm), norm_after = device::upload(device, *stream, next_norm);
  const std::int64_t parts = static_cast<std::int64_t>(layer->parts()) * rows;
  Array<float> sums(device, count * c.width), sums_kept(device, count * c.width), squares(device, parts),
      squares_kept(device, parts), qkv_out(device, count * c.qkv_width);
  Array<unsigned short> operand(device, rows * c.width), operand_kept(device, rows * c.width),
      hidden(device, rows * c.ffn_width), hidden_kept(device, rows * c.ffn_width);
  Array<unsigned long long> counters(device, 3);
  for (auto* array : {&sums, &squares, &qkv_out}) array->fill(*stream, 0xff);
  for (auto* array : {&operand, &hidden}) array->fill(*stream, 0xff);
  counters.fill(*stream, 0);
  cuda::LayerLinearsArguments a{};
  a.output = output.there.data(), a.gate_up = gate_up.there.data(), a.down = down.there.data();
  a.qkv = qkv.there.data(), a.attended = there.data(), a.operand = operand.data(), a.hidden = hidden.data();
  a.residual = sums.data(), a.squares = squares.data(), a.ffn_norm = norm.data(), a.next_norm = norm_after.data();
  a.qkv_out = qkv_out.data(), a.counters = counters.data(), a.count = count, a.epsilon = 1e-6f;
  const auto copy = [&](const auto& to, const auto& from) {
    stream->copy(to.data(), from.data(), from.bytes(), device::Direction::on_device);
  };
  // Launches follow each other, with and without the next layer's q, k, v; the second is kept.
  stream->begin_capture();
  layer->run(*stream, a);
  copy(sums, first_residual);
  layer->run(*stream, a);
  copy(sums_kept, sums), copy(squares_kept, squares), copy(operand_kept, operand), copy(hidden_kept, hidden);
  auto last = a;
  last.qkv = nullptr;
  layer->run(*stream, last);
  layer->run(*stream, last);
  const auto graph = stream->end_capture();
  copy(sums, first_residual);
  stream->launch(*graph);
  const auto came_sums = sums_kept.download(*stream), came_qkv = qkv_out.download(*stream),
             came_squares = squares_kept.download(*stream);
  const auto came_operand = operand_kept.download(*stream), came_hidden = hidden_kept.download(*stream);
  for (int i = 0; i < 200; ++i) stream->launch(*graph);
  EXPECT_EQ(sums_kept.download(*stream), came_sums);
  EXPECT_EQ(qkv_out.download(*stream), came_qkv);
  EXPECT_EQ(squares_kept.download(*stream), came_squares);
  EXPECT_EQ(operand_kept.download(*stream), came_operand);
  EXPECT_EQ(hidden_kept.download(*stream), came_hidden);

  const auto value = [&](const std::vector<unsigned short>& of, std::int64_t row, std::int64_t i) {
    return static_cast<double>(to_float(BFloat16{of[operand_at(row, i, rows)]}));
  };
  const auto row_of = [&](const std::vector<unsigned short>& of, std::int64_t row, std::int64_t width) {
    std::vector<double> out(static_cast<std::size_t>(width));
    for (std::int64_t i = 0; i < width; ++i) out[static_cast<std::size_t>(i)] = value(of, row, i);
    return out;
  };
  const auto factor = [&](const std::vector<double>& of) {
    double squared = 0;
    for (const double s : of) squared += s * s;
    return 1.0 / std::sqrt(squared / static_cast<double>(c.width) + 1e-6);
  };
  for (std::int64_t row = count; row < rows; ++row) {
    for (std::int64_t i = 0; i < c.width; ++i) ASSERT_EQ(value(came_operand, row, i), 0.0) << "row " << row;
    for (std::int64_t i = 0; i < c.ffn_width; ++i) ASSERT_EQ(value(came_hidden, row, i), 0.0) << "row " << row;
  }
  Distance of_hidden, of_sums, of_operand, of_qkv;
  for (const std::int64_t row : std::set<std::int64_t>{0, count / 2, count - 1}) {
    std::vector<double> after = output.multiply(row_of(attended, row, c.q_width)), normed;
    for (std::int64_t i = 0; i < c.width; ++i) {
      const auto at = static_cast<std::size_t>(i);
      after[at] += static_cast<double>(residual[static_cast<std::size_t>(row * c.width + i)]);
      normed.push_back(static_cast<double>(
          to_float(to_bfloat16(static_cast<float>(after[at] * static_cast<double>(ffn_norm[at]))))));
    }
    const std::vector<double> both = gate_up.multiply(normed);
    const double scale = factor(after);
    for (std::int64_t i = 0; i < c.ffn_width; ++i) {
      const auto at = static_cast<std::size_t>(i / 8 * 16 + i % 8);
      const double gate = both[at] * scale;
      of_hidden.add(static_cast<std::size_t>(row * c.ffn_width + i), value(came_hidden, row, i),
                    gate / (1.0 + std::exp(-gate)) * both[at + 8] * scale);
    }
    const std::vector<double> more = down.multiply(row_of(came_hidden, row, c.ffn_width));
    double squared = 0, squares_came = 0;
    for (std::int64_t i = 0; i < c.width; ++i) {
      const auto at = static_cast<std::size_t>(i), place = static_cast<std::size_t>(row * c.width + i);
      after[at] += more[at];
      squared += after[at] * after[at];
      of_sums.add(place, static_cast<double>(came_sums[place]), after[at]);
      of_operand.add(place, value(came_operand, row, i), after[at] * static_cast<double>(next_norm[at]));
    }
    for (int part = 0; part < layer->parts(); ++part)
      squares_came += static_cast<double>(came_squares[static_cast<std::size_t>(part * rows + row)]);
    EXPECT_NEAR(squares_came / squared, 1.0, 1e-5) << "row " << row;
    const std::vector<double> next = qkv.multiply(row_of(came_operand, row, c.width));
    const double scale_after = factor(after);
    for (std::int64_t i = 0; i < c.qkv_width; ++i) {
      const auto place = static_cast<std::size_t>(row * c.qkv_width + i);
      of_qkv.add(place, static_cast<double>(came_qkv[place]), next[static_cast<std::size_t>(i)] * scale_after);
    }
  }
  const auto judge = [&](const char* name, const Distance& d, double bound) {
    EXPECT_LE(d.value(), bound) << name << ": worst at " << d.at << ", came " << d.came << ", wanted " << d.wanted;
  };
  judge("residual", of_sums, 2e-6), judge("q, k, v", of_qkv, 2e-6);
  judge("operand", of_operand, 3e-3), judge("hidden", of_hidden, 3e-3);  // rounded to bf16
  std::printf("MEASURED %s, %d rows: residual %.2g, q k v %.2g, operand %.2g, hidden %.2g\n", layer->describe().c_str(),
              count, of_sums.value(), of_qkv.value(), of_operand.value(), of_hidden.value());
  std::fflush(stdout);
}

INSTANTIATE_TEST_SUITE_P(Shapes, LayerLinears,
                         ::testing::Values(with(1, kSmall), with(16, kSmall), with(40, kSmall), with(64, kSmall),
                                           with(1, kLarge), with(8, kLarge), with(32, kLarge), with(61, kLarge),
                                           with(8, kWide), with(50, kWide)),
                         [](const auto& chosen) {
                           return std::to_string(chosen.param.count) + "_of_" + std::to_string(chosen.param.ffn_width);
                         });

}  // namespace
}  // namespace vortex::gpu_tests
