// Times the linears of SmolLM2-135M (Q4_1 matrices, Q8_0 head), and one shape in every format, with random weights.
// Each measurement's result is checked against a double-precision sum of a few outputs. Method: each repetition passes
// over all layers' own weights (98 MB), each call timed by itself; "best" sums the best time of every call, "median"
// the medians. The read bandwidth of the machine, measured the same way over 1 GiB, stands beside.
//   bench_linear [threads] [repetitions] [format]
#include "kernels/cpu/linear.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/float16.h"
#include "kernels/cpu/bandwidth.h"
#include "kernels/cpu/isa.h"

namespace {

using namespace vortex;
using namespace vortex::kernels;

struct Layer {
  std::vector<std::uint8_t> bytes;
  WeightView view;
  std::shared_ptr<const PackedLinear> packed;
};

std::uint16_t half(float value) { return to_float16(value).bits; }

// Where the float16 of a block lie and what they are set to, so that weights are about 0.05.
struct Scales {
  std::size_t block = 0, at = 0;  // bytes of a block in a file; 0: floats
  float value = 0, second = 0;    // second: right behind the first, 0: there is none
};
Scales scales_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::q8_0:
      return {34, 0, 0.0005f};
    case WeightFormat::q4_0:
      return {18, 0, 0.008f};
    case WeightFormat::q4_1:
      return {20, 0, 0.008f, -0.06f};
    case WeightFormat::q5_0:
      return {22, 0, 0.004f};
    case WeightFormat::q5_1:
      return {24, 0, 0.004f, -0.06f};
    case WeightFormat::q4_k:
      return {144, 0, 0.0003f, 0.002f};
    case WeightFormat::q5_k:
      return {176, 0, 0.00015f, 0.002f};
    case WeightFormat::q6_k:
      return {210, 208, 0.00003f};
    default:
      return {};
  }
}

// Random bytes are valid integers; the scales are written over them so that outputs stay near 1.
Layer make(WeightFormat format, std::int64_t rows, std::int64_t columns, std::mt19937_64& random, ThreadPool& pool,
           Activations activations = Activations::int8) {
  Layer out;
  const std::int64_t per_row = row_bytes(format, columns);
  out.bytes.resize(static_cast<std::size_t>(rows * per_row));
  for (std::size_t i = 0; i + 8 <= out.bytes.size(); i += 8) {
    const std::uint64_t word = random();
    for (std::size_t j = 0; j < 8; ++j) out.bytes[i + j] = static_cast<std::uint8_t>(word >> (8 * j));
  }
  auto put = [&](std::size_t at, std::uint16_t bits) {
    out.bytes[at] = static_cast<std::uint8_t>(bits & 255);
    out.bytes[at + 1] = static_cast<std::uint8_t>(bits >> 8);
  };
  if (const Scales scales = scales_of(format); scales.block) {
    for (std::size_t at = 0; at < out.bytes.size(); at += scales.block) {
      put(at + scales.at, half(scales.value));
      if (scales.second != 0.0f) put(at + scales.at + 2, half(scales.second));
    }
  } else if (format == WeightFormat::f32) {
    auto* values = reinterpret_cast<float*>(out.bytes.data());
    for (std::int64_t i = 0; i < rows * columns; ++i)
      values[i] = static_cast<float>(static_cast<int>(random() % 201) - 100) * 5e-4f;
  } else {
    for (std::size_t at = 0; at < out.bytes.size(); at += 2) {
      const float value = static_cast<float>(static_cast<int>(random() % 201) - 100) * 5e-4f;
      put(at, format == WeightFormat::f16 ? half(value) : to_bfloat16(value).bits);
    }
  }
  out.view = {format, out.bytes.data(), rows, columns};
  out.packed = PackedLinear::pack({&out.view, 1}, pool, activations);
  return out;
}

void check(const Layer& layer, const std::vector<float>& x, const std::vector<float>& y, std::int64_t tokens) {
  const std::int64_t columns = layer.view.columns, rows = layer.view.rows;
  std::vector<float> row(static_cast<std::size_t>(columns));
  ThreadPool one(1);
  for (std::int64_t r : {std::int64_t{0}, rows / 2, rows - 1}) {
    const std::int32_t index = static_cast<std::int32_t>(r);
    gather_rows(layer.view, &index, 1, row.data(), one);
    for (std::int64_t t : {std::int64_t{0}, tokens - 1}) {
      double sum = 0, size = 0;
      for (std::int64_t c = 0; c < columns; ++c) {
        const double term = static_cast<double>(row[static_cast<std::size_t>(c)]) *
                            static_cast<double>(x[static_cast<std::size_t>(t * columns + c)]);
        sum += term;
        size += term * term;
      }
      const double came = static_cast<double>(y[static_cast<std::size_t>(t * rows + r)]);
      VORTEX_CHECK(std::abs(came - sum) <= 0.05 * std::sqrt(size), "row ", r, " token ", t, ": ", came, " for ", sum);
    }
  }
}

void measure(const char* name, const std::vector<Layer>& layers, std::int64_t tokens, int repetitions, double light,
             ThreadPool& pool) {
  std::mt19937_64 random(7);
  std::normal_distribution<float> normal;
  std::int64_t widest = 0, most_rows = 0, bytes = 0;
  double products = 0;
  for (const Layer& layer : layers) {
    widest = std::max(widest, layer.view.columns);
    most_rows = std::max(most_rows, layer.view.rows);
    bytes += layer.packed->bytes();
    products += static_cast<double>(layer.view.rows) * static_cast<double>(layer.view.columns);
  }
  std::vector<float> x(static_cast<std::size_t>(widest * tokens)), y(static_cast<std::size_t>(most_rows * tokens));
  for (float& value : x) value = normal(random);
  std::vector<std::vector<double>> seconds(layers.size());
  for (int i = 0; i <= repetitions; ++i)
    for (std::size_t j = 0; j < layers.size(); ++j) {
      const auto before = std::chrono::steady_clock::now();
      layers[j].packed->run(x.data(), layers[j].view.columns, y.data(), layers[j].view.rows, tokens, nullptr, pool);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - before;
      if (i > 0) seconds[j].push_back(took.count());
    }
  double best = 0, median = 0;
  for (std::vector<double>& times : seconds) {
    std::sort(times.begin(), times.end());
    best += times.front();
    median += times[times.size() / 2];
  }
  check(layers.back(), x, y, tokens);
  const double rate = static_cast<double>(bytes) / best;
  std::printf(
      "%-26s %5lld tokens  best %8.3f ms  median %8.3f ms  %6.1f GB/s %4.0f %% of light  %8.1f tok/s  %7.1f Gmac/s\n",
      name, static_cast<long long>(tokens), best * 1e3, median * 1e3, rate / 1e9, 100 * rate / light,
      static_cast<double>(tokens) / best, products * static_cast<double>(tokens) / best / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 0);
  const int repetitions = argc > 2 ? std::atoi(argv[2]) : 20;
  std::mt19937_64 random(1);
  const ReadBandwidth light = measured_read_bandwidth(pool);
  std::printf("%s, %d threads; read bandwidth best %.1f GB/s, median %.1f GB/s\n", name_of(active_isa()),
              pool.threads(), light.bytes_per_second / 1e9, light.median / 1e9);
  std::vector<Layer> model;
  for (int i = 0; i < 30; ++i) {
    model.push_back(make(WeightFormat::q4_1, 960, 576, random, pool));
    model.push_back(make(WeightFormat::q4_1, 576, 576, random, pool));
    model.push_back(make(WeightFormat::q4_1, 3072, 576, random, pool));
    model.push_back(make(WeightFormat::q4_1, 576, 1536, random, pool));
  }
  for (std::int64_t tokens : {128, 512})
    measure("SmolLM2 without head", model, tokens, std::max(2, repetitions / 5), light.bytes_per_second, pool);
  model.push_back(make(WeightFormat::q8_0, 49152, 576, random, pool));
  for (std::int64_t tokens : {1, 2, 4, 8}) measure("SmolLM2", model, tokens, repetitions, light.bytes_per_second, pool);
  model.clear();
  for (WeightFormat format : kWeightFormats) {
    std::vector<Layer> layers;  // about 100 MB
    if (argc > 3 && std::string(argv[3]) != name_of(format)) continue;
    const std::int64_t per_layer = 1024 * row_bytes(format, 2048);
    while (static_cast<std::int64_t>(layers.size()) * per_layer < 100'000'000)
      layers.push_back(make(format, 1024, 2048, random, pool));
    for (std::int64_t tokens : {1, 8})
      measure(name_of(format), layers, tokens, repetitions / 2 + 1, light.bytes_per_second, pool);
  }
}
