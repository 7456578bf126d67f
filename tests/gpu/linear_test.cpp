// The weight-streaming linears against double precision on the operands' own bf16 values, every epilogue, with poisoned
// outputs.
#include "kernels/cuda/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <random>

#include "base/float16.h"
#include "gpu/open.h"

namespace vortex::gpu_tests {
namespace {

using device::Array;
using kernels::Epilogue;

struct LinearCase {
  Epilogue epilogue;
  int count;
  std::int64_t in, out;
  int tile = 0, part = 0, split = 0;  // 0: as suits the shape
};

std::size_t operand_at(std::int64_t row, std::int64_t column, std::int64_t rows) {
  return static_cast<std::size_t>((column / 64 * rows + row) * 64 + ((column % 64 / 8) ^ (row & 7)) * 8 + column % 8);
}

class StreamedLinear : public ::testing::TestWithParam<LinearCase> {};

TEST_P(StreamedLinear, AgreesWithDoublePrecision) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  if (device->architecture() != "sm_90a")
    GTEST_SKIP() << "the weight-streaming linears are compiled for sm_90a devices only";
  const auto [epilogue, count, in, out, tile, rows_of_block, split] = GetParam();
  const auto stream = device->make_stream();
  const int rows = (count + 7) / 8 * 8;
  const kernels::StreamedLinear linear(
      *device,
      {.epilogue = epilogue, .rows = rows, .in = in, .out = out, .tile = tile, .part = rows_of_block, .split = split});
  const kernels::LinearHelpers helpers(*device);
  const std::int64_t padded = linear.weight_elements() / in;

  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  const auto draw = [&](std::int64_t n, float size) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (float& value : values) value = to_float(to_bfloat16(normal(random) * size));
    return values;
  };
  const std::vector<float> weight = draw(out * in, 0.05f), x = draw(count * in, 1.0f),
                           residual = draw(count * out, 1.0f), norm = draw(out, 1.0f), squares = draw(3 * rows, 1.0f);
  std::vector<BFloat16> operand(static_cast<std::size_t>(rows * in), to_bfloat16(0.0f));
  for (std::int64_t row = 0; row < count; ++row)
    for (std::int64_t i = 0; i < in; ++i)
      operand[operand_at(row, i, rows)] = to_bfloat16(x[static_cast<std::size_t>(row * in + i)]);
  std::vector<float> parts = squares;  // sums of squares: positive
  for (float& value : parts) value = value * value * static_cast<float>(in);
  // Channels as the epilogue wants them: gates and ups in turns of eight.
  std::vector<int> row_of(static_cast<std::size_t>(padded), -1);
  for (std::int64_t i = 0; i < out; ++i) {
    const std::int64_t half = i / 16 * 8 + i % 8;
    row_of[static_cast<std::size_t>(i)] =
        static_cast<int>(epilogue == Epilogue::swiglu ? (i % 16 < 8 ? half : out / 2 + half) : i);
  }

  const auto device_weight = device::upload(device, *stream, weight);
  const auto device_row_of = device::upload(device, *stream, row_of);
  Array<unsigned short> packed(device, padded * in);
  packed.fill(*stream, 0xff);
  helpers.pack(*stream, {device_weight.data(), packed.data(), device_row_of.data(), static_cast<int>(padded),
                         static_cast<int>(in), kernels::StreamedLinear::kPackedRows});
  const auto device_x = device::upload(device, *stream, operand);
  const auto device_parts = device::upload(device, *stream, parts);
  const auto device_norm = device::upload(device, *stream, norm);
  auto device_residual = device::upload(device, *stream, residual);
  Array<float> plain(device, count * out), squares_out(device, static_cast<std::int64_t>(linear.parts()) * rows),
      best(device, static_cast<std::int64_t>(linear.bests()) * rows);
  Array<int> best_channel(device, static_cast<std::int64_t>(linear.bests()) * rows);
  Array<BFloat16> made(device, rows * out);
  plain.fill(*stream, 0xff), squares_out.fill(*stream, 0xff), best.fill(*stream, 0xff), made.fill(*stream, 0xff);
  const bool scaled = epilogue != Epilogue::residual;
  cuda::StreamedLinearArguments a{};
  a.weight = packed.data(), a.x = reinterpret_cast<const unsigned short*>(device_x.data()), a.count = count;
  a.squares = device_parts.data(), a.parts = scaled ? 3 : 0, a.width = static_cast<float>(in), a.epsilon = 1e-6f;
  a.out = plain.data(), a.operand = reinterpret_cast<unsigned short*>(made.data()), a.residual = device_residual.data();
  a.norm = device_norm.data(), a.squares_out = squares_out.data(), a.best = best.data();
  a.best_channel = best_channel.data();
  linear.run(*stream, a);

  std::vector<double> expected(static_cast<std::size_t>(count * out));
  for (std::int64_t row = 0; row < count; ++row) {
    double sum = 0;
    for (int part = 0; part < 3; ++part) sum += static_cast<double>(parts[static_cast<std::size_t>(part * rows + row)]);
    const double factor = scaled ? 1.0 / std::sqrt(sum / static_cast<double>(in) + 1e-6) : 1.0;
    for (std::int64_t channel = 0; channel < out; ++channel) {
      double value = 0;
      for (std::int64_t i = 0; i < in; ++i)
        value += static_cast<double>(weight[static_cast<std::size_t>(channel * in + i)]) *
                 static_cast<double>(x[static_cast<std::size_t>(row * in + i)]);
      expected[static_cast<std::size_t>(row * out + channel)] = value * factor;
    }
  }
  double error = 0, size = 0;
  const auto compare = [&](double came, double wanted) {
    error += (came - wanted) * (came - wanted), size += wanted * wanted;
  };
  double bound = 1e-5;
  if (epilogue == Epilogue::plain || epilogue == Epilogue::likeliest) {
    const auto came = plain.download(*stream);
    for (std::size_t i = 0; i < came.size(); ++i) compare(static_cast<double>(came[i]), expected[i]);
    const auto values = best.download(*stream);
    const auto channels = best_channel.download(*stream);
    for (int row = 0; epilogue == Epilogue::likeliest && row < count; ++row) {
      int wanted = 0, at = 0;
      for (int i = 0; i < out; ++i)
        if (came[static_cast<std::size_t>(row * out + i)] > came[static_cast<std::size_t>(row * out + wanted)])
          wanted = i;
      for (int block = 0; block < linear.bests(); ++block)
        if (values[static_cast<std::size_t>(block * rows + row)] > values[static_cast<std::size_t>(at * rows + row)])
          at = block;
      EXPECT_EQ(channels[static_cast<std::size_t>(at * rows + row)], wanted) << "row " << row;
    }
  } else {
    const auto came = made.download(*stream);
    const bool swiglu = epilogue == Epilogue::swiglu;
    bound = 4e-3;  // of a result in bf16
    const std::int64_t channels = swiglu ? out / 2 : out;
    const auto sums = device_residual.download(*stream), of_blocks = squares_out.download(*stream);
    for (std::int64_t row = 0; row < rows; ++row) {
      double squares_wanted = 0, squares_came = 0;
      for (std::int64_t i = 0; i < channels; ++i) {
        const double value = static_cast<double>(to_float(came[operand_at(row, i, rows)]));
        if (row >= count) {
          EXPECT_EQ(value, 0.0) << "row " << row;
          continue;
        }
        const auto at = static_cast<std::size_t>(row * out + i);
        if (swiglu) {
          const double gate = expected[at];
          compare(value, gate / (1.0 + std::exp(-gate)) * expected[static_cast<std::size_t>(row * out + channels + i)]);
        } else {
          const double wanted = expected[at] + static_cast<double>(residual[at]);
          compare(value, wanted * static_cast<double>(norm[static_cast<std::size_t>(i)]));
          EXPECT_NEAR(static_cast<double>(sums[at]), wanted, 2e-4) << row << ", " << i;
          squares_wanted += wanted * wanted;
        }
      }
      for (int part = 0; !swiglu && part < linear.parts(); ++part)
        squares_came += static_cast<double>(of_blocks[static_cast<std::size_t>(part * rows + row)]);
      if (!swiglu && row < count) {
        EXPECT_NEAR(squares_came / squares_wanted, 1.0, 2e-5) << "row " << row;  // the matrix unit cuts its sums off
      }
    }
  }
  std::printf("MEASURED linear of %d rows, %s: normalised error %.2g\n", count,
              kernels::describe(linear.shape()).c_str(), std::sqrt(error / size));
  EXPECT_LE(std::sqrt(error / size), bound);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, StreamedLinear,
    ::testing::Values(LinearCase{Epilogue::plain, 1, 512, 4096}, LinearCase{Epilogue::plain, 64, 1024, 4096},
                      LinearCase{Epilogue::plain, 96, 256, 4096}, LinearCase{Epilogue::swiglu, 8, 256, 12288},
                      LinearCase{Epilogue::swiglu, 61, 512, 12288}, LinearCase{Epilogue::swiglu, 256, 256, 12288},
                      LinearCase{Epilogue::residual, 3, 512, 2048}, LinearCase{Epilogue::residual, 64, 6144, 2048},
                      LinearCase{Epilogue::residual, 256, 512, 2048}, LinearCase{Epilogue::likeliest, 5, 256, 20008},
                      LinearCase{Epilogue::likeliest, 64, 128, 40000}, LinearCase{Epilogue::likeliest, 250, 128, 20000},
                      // Cuts of every kind: split, parts of the rows that do not come out even, tiles that end beyond
                      // the last channel.
                      LinearCase{Epilogue::plain, 256, 1024, 1088, 128, 64, 1},
                      LinearCase{Epilogue::plain, 250, 1024, 1024, 64, 128, 2},
                      LinearCase{Epilogue::plain, 200, 512, 1024, 128, 72, 1},
                      LinearCase{Epilogue::plain, 24, 512, 1024, 64, 24, 4},
                      LinearCase{Epilogue::swiglu, 250, 1024, 4224, 192, 128, 1},
                      LinearCase{Epilogue::swiglu, 96, 512, 4096, 128, 96, 1},
                      LinearCase{Epilogue::swiglu, 13, 512, 4096, 192, 16, 2},
                      LinearCase{Epilogue::residual, 250, 2048, 1024, 128, 64, 1},
                      LinearCase{Epilogue::residual, 256, 2048, 1024, 64, 64, 1},
                      LinearCase{Epilogue::residual, 256, 2048, 1024, 64, 128, 2},
                      LinearCase{Epilogue::residual, 200, 2048, 1024, 64, 104, 2},
                      LinearCase{Epilogue::residual, 40, 6144, 1024, 64, 40, 4},
                      LinearCase{Epilogue::likeliest, 256, 128, 34600, 128, 256, 1},
                      LinearCase{Epilogue::likeliest, 250, 128, 20008, 192, 128, 1},
                      LinearCase{Epilogue::likeliest, 24, 128, 20008, 128, 24, 1}),
    [](const auto& chosen) {
      return std::string(kernels::name_of(chosen.param.epilogue)) + "_" + std::to_string(chosen.param.count) + "_" +
             std::to_string(chosen.param.in) + "_" + std::to_string(chosen.param.out) +
             (chosen.param.tile == 0
                  ? ""
                  : "_cut_" + std::to_string(chosen.param.tile) + "_" + std::to_string(chosen.param.part) + "_" +
                        std::to_string(chosen.param.split));
    });

}  // namespace
}  // namespace vortex::gpu_tests
