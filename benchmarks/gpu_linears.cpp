// Times the linears of a Qwen3-1.7B-shaped layer on a GPU (width 2048, FFN 6144, 16 query and 8 KV heads of 128
// channels), weights of 28 layers in turn.
// Method: a graph of 28 launches (or 28 of each) is replayed, the median over replays is shown, share of 4.3 TB/s
// beside.
//   bench_gpu_linears ROWS...          the linears between two attentions, one by one and in one kernel
//   bench_gpu_linears --cuts ROWS...   every way to cut each linear
#include <vortex/error.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <future>
#include <string>
#include <vector>

#include "kernels/cuda/layer_linears.h"
#include "kernels/cuda/linear.h"

namespace {

using namespace vortex;

struct Model {
  std::int64_t width = 2048, ffn_width = 6144, q_width = 2048, qkv_width = 4096;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Microseconds of each linear of a layer, cut in every way.
void sweep(const std::shared_ptr<device::Device>& device, int rows, double rate) {
  using kernels::Epilogue;
  constexpr Model m;
  const auto stream = device->make_stream();
  const kernels::LinearHelpers helpers(*device);
  constexpr int kLayers = 28;
  device::Array<unsigned short> weights(device, static_cast<std::int64_t>(kLayers) * m.width * 2 * m.ffn_width),
      x(device, 256 * m.ffn_width), made(device, 256 * m.ffn_width);
  device::Array<float> out(device, 256 * 4096), residual(device, 256 * m.width), squares(device, 256 * 256),
      norm(device, m.width);
  helpers.random(*stream, {weights.data(), weights.count(), 1, 0.03f});
  helpers.random(*stream, {x.data(), x.count(), 2, 1.0f});
  for (auto* array : {&out, &residual, &squares, &norm}) array->fill(*stream, 0);
  const kernels::LinearShape shapes[] = {
      {.epilogue = Epilogue::plain, .rows = rows, .in = m.width, .out = m.qkv_width},
      {.epilogue = Epilogue::residual, .rows = rows, .in = m.q_width, .out = m.width},
      {.epilogue = Epilogue::swiglu, .rows = rows, .in = m.width, .out = 2 * m.ffn_width},
      {.epilogue = Epilogue::residual, .rows = rows, .in = m.ffn_width, .out = m.width}};
  for (const kernels::LinearShape& shape : shapes) {
    const kernels::LinearShape usual = kernels::StreamedLinear::resolve(shape, device->multiprocessors());
    std::vector<std::future<std::unique_ptr<kernels::StreamedLinear>>> cuts;  // compiled side by side
    for (const int tile : {64, 128, 192}) {
      for (const int split : {1, 2, 4, 8}) {
        const std::int64_t blocks = shape.out / tile * split;
        if (blocks < 60 || blocks > 272) continue;
        for (const int shared : {112, 220}) {
          kernels::LinearShape cut = shape;
          cut.tile = tile, cut.split = split, cut.stages = std::min(shared * 1024 / ((tile + rows) * 128), 8);
          if (cut.stages < 2 || cut.stages * (tile + rows) * 128 < rows * (tile + 4 * split) * 4) continue;
          cuts.push_back(std::async(std::launch::async, [&device, cut]() -> std::unique_ptr<kernels::StreamedLinear> {
            try {
              return std::make_unique<kernels::StreamedLinear>(*device, cut);
            } catch (const UserError&) {  // not a way to cut this one
              return nullptr;
            }
          }));
        }
      }
    }
    for (auto& made_cut : cuts) {
      const auto linear = made_cut.get();
      if (linear == nullptr) continue;
      const kernels::LinearShape& cut = linear->shape();
      stream->begin_capture();
      for (int layer = 0; layer < kLayers; ++layer) {
        cuda::StreamedLinearArguments a{};
        a.weight = weights.data() + layer * linear->weight_elements(), a.x = x.data(), a.count = rows;
        a.squares = squares.data(), a.parts = shape.epilogue == Epilogue::residual ? 0 : 128, a.width = 2048.0f,
        a.epsilon = 1e-6f;
        a.out = out.data(), a.operand = made.data(), a.residual = residual.data(), a.norm = norm.data(),
        a.squares_out = squares.data();
        linear->run(*stream, a);
      }
      const auto graph = stream->end_capture();
      std::vector<double> times;
      for (int i = 0; i < 8; ++i) {
        const auto begin = device->make_event(), end = device->make_event();
        stream->record(*begin);
        stream->launch(*graph);
        stream->record(*end);
        stream->synchronize();
        times.push_back(device->milliseconds(*begin, *end) * 1e3 / kLayers);
      }
      const double us = median(times), bytes = static_cast<double>(linear->weight_bytes());
      std::printf("%3d rows %-8s %5lldx%-6lld tile %3d split %d stages %d: %6.2f us, %3.0f%%%s\n", rows,
                  kernels::name_of(shape.epilogue), static_cast<long long>(shape.in), static_cast<long long>(shape.out),
                  cut.tile, cut.split, cut.stages, us, 100 * bytes / (us * 1e-6) / rate,
                  cut.tile == usual.tile && cut.split == usual.split && cut.stages == usual.stages ? "  <- usual" : "");
    }
  }
}

// Microseconds of the linears between two attentions, weights of 28 layers in turn: one by one, and in one kernel.
void sweep_layers(const std::shared_ptr<device::Device>& device, int rows, double rate) {
  using kernels::Epilogue, kernels::LayerLinears, kernels::LayerLinearsShape, kernels::StreamedLinear;
  constexpr Model m;
  const auto stream = device->make_stream();
  const kernels::LinearHelpers helpers(*device);
  constexpr int kLayers = 28;
  const std::int64_t q_width = m.q_width, qkv_width = m.qkv_width, ffn = m.ffn_width, width = m.width;
  const std::int64_t sizes[] = {q_width * width, width * 2 * ffn, ffn * width, width * qkv_width};
  const std::int64_t of_layer = sizes[0] + sizes[1] + sizes[2] + sizes[3];
  device::Array<unsigned short> weights(device, kLayers * of_layer), attended(device, rows * q_width),
      operand(device, rows * width), hidden(device, rows * ffn);
  device::Array<float> qkv_out(device, rows * qkv_width), residual(device, rows * width), squares(device, rows * 256),
      norm = device::upload(device, *stream, std::vector<float>(static_cast<std::size_t>(width), 1.0f));
  device::Array<unsigned long long> counters(device, 3);
  counters.fill(*stream, 0);
  helpers.random(*stream, {weights.data(), weights.count(), 1, 0.03f});
  helpers.random(*stream, {attended.data(), attended.count(), 2, 1.0f});
  for (auto* array : {&qkv_out, &residual, &squares}) array->fill(*stream, 0);
  const auto weight = [&](int layer, int linear) {
    unsigned short* at = weights.data() + layer * of_layer;
    for (int i = 0; i < linear; ++i) at += sizes[i];
    return at;
  };
  const auto measure = [&](const std::string& name, const auto& put_layer, double bytes) {
    try {
      stream->begin_capture();
      for (int layer = 0; layer < kLayers; ++layer) put_layer(layer);
      const auto graph = stream->end_capture();
      std::vector<double> times;
      for (int i = 0; i < 24; ++i) {
        const auto begin = device->make_event(), end = device->make_event();
        stream->record(*begin);
        stream->launch(*graph);
        stream->record(*end);
        stream->synchronize();
        if (i >= 3) times.push_back(device->milliseconds(*begin, *end) * 1e3 / kLayers);
      }
      const double us = median(times);
      std::printf("%3d rows %6.2f us, %3.0f%%  %s\n", rows, us, 100 * bytes / (us * 1e-6) / rate, name.c_str());
    } catch (const std::exception& error) {
      std::printf("%3d rows %s: %s\n", rows, name.c_str(), error.what());
    }
    std::fflush(stdout);
  };

  const double all = 2.0 * static_cast<double>(of_layer);
  const auto shape = [&](Epilogue epilogue, std::int64_t in, std::int64_t out) {
    return kernels::LinearShape{.epilogue = epilogue, .rows = rows, .in = in, .out = out};
  };
  const StreamedLinear output(*device, shape(Epilogue::residual, q_width, width)),
      gate_up(*device, shape(Epilogue::swiglu, width, 2 * ffn)), down(*device, shape(Epilogue::residual, ffn, width)),
      qkv(*device, shape(Epilogue::plain, width, qkv_width));
  const auto put = [&](int layer, unsigned which) {
    cuda::StreamedLinearArguments a{};
    a.count = rows, a.squares = a.squares_out = squares.data(), a.residual = residual.data(), a.norm = norm.data();
    a.width = static_cast<float>(width), a.epsilon = 1e-6f, a.operand = operand.data(), a.out = qkv_out.data();
    auto b = a;
    b.weight = weight(layer, 0), b.x = attended.data();
    if ((which & 1) != 0) output.run(*stream, b);
    b = a, b.weight = weight(layer, 1), b.x = operand.data(), b.operand = hidden.data(), b.parts = output.parts();
    if ((which & 2) != 0) gate_up.run(*stream, b);
    b = a, b.weight = weight(layer, 2), b.x = hidden.data();
    if ((which & 4) != 0) down.run(*stream, b);
    b = a, b.weight = weight(layer, 3), b.x = operand.data(), b.parts = down.parts();
    if ((which & 8) != 0) qkv.run(*stream, b);
  };
  measure(
      "one by one", [&](int layer) { put(layer, 15); }, all);
  const char* const names[] = {"output", "gate, up", "down", "q, k, v"};
  for (unsigned i = 0; i < 4; ++i)
    measure(
        names[i], [&](int layer) { put(layer, 1u << i); }, 2.0 * static_cast<double>(sizes[i]));
  const std::array<int, 4> packs = {output.shape().tile, gate_up.shape().tile, down.shape().tile, qkv.shape().tile};
  const LayerLinearsShape usual{
      .rows = rows, .width = width, .q_width = q_width, .ffn_width = ffn, .qkv_width = qkv_width, .packs = packs};
  std::vector<LayerLinearsShape> ways(6, usual);
  ways[1].window = 6, ways[2].window = 16, ways[3].window = 1000;
  ways[4].tiles = {64, 192, 64, 128}, ways[4].splits = {2, 2, 2, 2};
  ways[5].start = device::Start::together;
  std::vector<std::future<std::unique_ptr<LayerLinears>>> made;  // compiled side by side
  for (const LayerLinearsShape& way : ways)
    made.push_back(std::async(std::launch::async, [&device, way] { return LayerLinears::make(*device, way); }));
  for (std::size_t i = 0; i < ways.size(); ++i) {
    const auto layer = made[i].get();
    if (layer == nullptr) {
      std::printf("%3d rows: way %zu is not one\n", rows, i);
      continue;
    }
    measure(
        layer->describe() + (ways[i].start == device::Start::together ? " together" : "") + ", window " +
            std::to_string(ways[i].window),
        [&](int number) {
          cuda::LayerLinearsArguments a{};
          a.output = weight(number, 0), a.gate_up = weight(number, 1), a.down = weight(number, 2),
          a.qkv = weight(number, 3);
          a.attended = attended.data(), a.operand = operand.data(), a.hidden = hidden.data(),
          a.residual = residual.data();
          a.squares = squares.data(), a.ffn_norm = a.next_norm = norm.data(), a.qkv_out = qkv_out.data();
          a.counters = counters.data(), a.count = rows, a.epsilon = 1e-6f;
          layer->run(*stream, a);
        },
        all);
  }
}

}  // namespace

int main(int count, char** words) {
  bool cuts = false;
  std::vector<int> rows;
  for (int i = 1; i < count; ++i) {
    const int number = std::atoi(words[i]);
    if (std::strcmp(words[i], "--cuts") == 0) {
      cuts = true;
    } else if (number > 0 && number <= 256 && number % 8 == 0) {
      rows.push_back(number);
    } else {
      std::fprintf(stderr, "bench_gpu_linears [--cuts] ROWS..., multiples of 8 up to 256; got %s\n", words[i]);
      return 2;
    }
  }
  if (rows.empty()) rows = {8, 64};
  try {
    const auto device = device::open(device::Kind::cuda);
    for (const int number : rows) (cuts ? sweep : sweep_layers)(device, number, 4.3e12);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
