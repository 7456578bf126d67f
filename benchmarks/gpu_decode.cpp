// Times steady decode of a Qwen3-1.7B-shaped random model on a GPU (28 layers, 16 query and 8 KV heads of 128 channels,
// width 2048, FFN 6144, vocabulary 151,936, bf16): full attention and a flow with 512 attended tokens a row, every
// layer sparse, one graph a step from embedding to sampled token. Contexts are distinct and random, pages shuffled over
// the pool, lists differ by row and layer; tokens attended are counted on the device. Where KV of 28 layers does not
// fit the device, a case runs with as many layers as fit and says so. Method: graphs are replayed, a time for each
// replay between events, the median is shown; parts are timed as graphs of that part of all layers.
//   bench_gpu_decode [--profile] [--full] [--apart] [--flow NAME|FILE.ir]... [--page TOKENS]... [SEQUENCESxCONTEXT...]
// --flow: centroid (the default), quest, mean_deviation, or a file of IR text. --page: tokens of a page, 16 when none
// is given. --apart: every op that can be is a kernel of its own.
//   bench_gpu_decode --rungs [--flow ...] [SEQUENCESxCONTEXT]   what each step to overlapped graphs brings
//   (gpu_rungs.h) bench_gpu_decode --linears ROWS...   every way to cut each linear of a layer, weights of 28 layers in
//   turn
#include <vortex/error.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <future>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/text.h"
#include "gpu/fast_step.h"
#include "gpu_rungs.h"
#include "ir/program.h"
#include "support/flows.h"

namespace {

using namespace vortex;
using gpu_tests::FastStep, gpu_tests::Part, gpu_tests::StepModel, gpu_tests::StepPool;

struct Case {
  int sequences, context;
  double sglang;  // ms a step of full attention, SGLang 0.5.16 (FA3) on one H200; 0: not measured
};
const Case kCases[] = {{1, 32768, 2.87}, {8, 32768, 8.86}, {64, 16384, 29.5}, {96, 11264, 30.9}, {256, 4096, 32.0}};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Bytes a second that reading a large buffer reaches, as the best of some tries: copies count reads and writes.
double copy_rate(const std::shared_ptr<device::Device>& device) {
  constexpr std::int64_t kBytes = 4LL << 30;
  const device::Array<char> from(device, kBytes), to(device, kBytes);
  const auto stream = device->make_stream();
  double best = 0;
  for (int i = 0; i < 5; ++i) {
    const auto begin = device->make_event(), end = device->make_event();
    stream->record(*begin);
    stream->copy(to.data(), from.data(), kBytes, device::Direction::on_device);
    stream->record(*end);
    stream->synchronize();
    best = std::max(best, 2.0 * kBytes / (device->milliseconds(*begin, *end) * 1e-3));
  }
  return best;
}

void profile(FastStep& step, const StepModel& model, bool sparse, double rate) {
  const auto both = [](Part a, Part b) {
    return static_cast<Part>(static_cast<unsigned>(a) | static_cast<unsigned>(b));
  };
  const Part chosen = both(Part::prepare, Part::select), linears = both(both(Part::output, Part::gate_up), Part::down);
  std::vector<Part> parts = {Part::embed, Part::qkv, Part::prepare};
  if (sparse) parts.insert(parts.end(), {Part::score, Part::select, chosen});
  parts.insert(parts.end(), {Part::attend, Part::output, Part::gate_up, Part::down, linears, Part::head, Part::sample});
  std::printf("      %-17s %9s %10s %10s\n", "part", "us", "MB", "of rate");
  for (const Part part : parts) {
    const auto graph = step.capture(static_cast<unsigned>(part));
    step.time(*graph, 3);
    const bool once = part == Part::embed || part == Part::head || part == Part::sample;
    const double us = median(step.time(*graph, 11)) * 1e3 / (once ? 1 : model.layers);
    double bytes = 0;
    for (unsigned of = 1; of < static_cast<unsigned>(Part::all); of *= 2)
      if ((static_cast<unsigned>(part) & of) != 0)
        bytes += static_cast<double>(
            step.bytes_of(of == static_cast<unsigned>(Part::select) ? Part::score : static_cast<Part>(of)));
    const char* name = part == Part::select ? "score, select"
                       : part == chosen     ? "prepare to select"
                       : part == linears    ? "output to down"
                                            : gpu_tests::name_of(part);
    std::printf("      %-17s %9.2f %10.2f %9.0f%%\n", name, us, bytes / 1e6, 100.0 * bytes / (us * 1e-6) / rate);
  }
  std::fflush(stdout);
}

// Microseconds of each linear of a layer, cut in every way.
void sweep(const std::shared_ptr<device::Device>& device, int rows, double rate) {
  using kernels::Epilogue;
  const StepModel m;
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
      {.epilogue = Epilogue::plain, .rows = rows, .in = m.width, .out = m.q_width() + 2 * m.kv_width()},
      {.epilogue = Epilogue::residual, .rows = rows, .in = m.q_width(), .out = m.width},
      {.epilogue = Epilogue::swiglu, .rows = rows, .in = m.width, .out = 2 * m.ffn_width},
      {.epilogue = Epilogue::residual, .rows = rows, .in = m.ffn_width, .out = m.width}};
  for (const kernels::LinearShape& shape : shapes) {
    const kernels::LinearShape usual = kernels::StreamedLinear::resolve(shape);
    std::vector<std::future<std::unique_ptr<kernels::StreamedLinear>>> cuts;  // compiled side by side
    for (const int tile : {64, 128, 192}) {
      for (const int row_blocks : {1, 2, 4}) {
        const int part = (rows / row_blocks + 7) / 8 * 8;
        if (row_blocks > 1 && rows < 16 * row_blocks) continue;
        for (const int split : {1, 2, 4}) {
          const std::int64_t blocks = (shape.out + tile - 1) / tile * split * row_blocks;
          if (blocks < 60 || blocks > 132) continue;
          kernels::LinearShape cut = shape;
          cut.tile = tile, cut.part = part, cut.split = split;
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
        a.squares = squares.data(),
        a.parts = shape.epilogue == Epilogue::residual ? 0 : m.width / kernels::StreamedLinear::kPackedRows,
        a.width = 2048.0f, a.epsilon = 1e-6f;
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
      std::printf("%3d rows %s: %6.2f us, %3.0f%%%s\n", rows, kernels::describe(cut).c_str(), us,
                  100 * bytes / (us * 1e-6) / rate,
                  kernels::describe(cut) == kernels::describe(usual) ? "  <- usual" : "");
    }
  }
}

constexpr int kMore = 96;

// A flow by name or from a file of IR text, with 512 attended tokens a row.
ir::Program program_of(const std::string& name, int page) {
  const std::string config = concat("budget=", 512 / page, " page_size=", page);
  for (const testing::NamedFlow& flow :
       {testing::centroid_flow(), testing::quest_flow(), testing::mean_deviation_flow()})
    if (flow.name == name) return ir::parse(flow.text(config));
  std::ifstream file(name);
  if (!file)
    throw UserError("bench_gpu_decode", "a flow by name (centroid, quest, mean_deviation) or a file of IR was required",
                    name, "print a flow's IR with: vortex check FLOW.py --ir");
  std::ostringstream text;
  text << file.rdbuf();
  ir::Program program = ir::parse(text.str());
  program.config.page_size = page, program.config.budget = 512 / page;
  return program;
}

std::int64_t tokens_of(const Case& c, int page) {
  return static_cast<std::int64_t>(c.sequences) * (c.context + kMore + page + 16);
}

// Layers whose weights and KV fit the device, with a sixteenth of the KV for summaries and 3 GB for the rest.
int layers_that_fit(const device::Device& device, const StepModel& model, std::int64_t tokens) {
  const std::int64_t kv = tokens * model.kv_width() * 4, head = 2LL * model.vocabulary * model.width;
  const std::int64_t of_layer = (model.weight_bytes() - head) / model.layers + kv + kv / 16;
  return static_cast<int>(
      std::clamp<std::int64_t>((device.free_bytes() - head - (3LL << 30)) / of_layer, 1, model.layers));
}

// One line of the table, and what --profile says.
void time_case(const std::shared_ptr<device::Device>& device, const StepPool& pool,
               const std::optional<ir::Program>& program, const Case& c, bool fused, bool with_profile, double rate) {
  const StepModel& model = pool.model();
  std::optional<compiler::Plan> plan;
  if (program) {
    plan = compiler::compile(
        *program,
        {.page_size = program->config.page_size, .head_dim = model.head_dim, .group = model.group(), .value_dim = 0});
  }
  FastStep step(device, pool, plan, {.sequences = c.sequences, .context = c.context, .more = kMore, .fused = fused});
  // One step with its lists and logits.
  const auto logged = step.capture(static_cast<unsigned>(Part::all), true);
  step.time(*logged, 1);
  const FastStep::Log log = step.log();
  double attended = 0;
  for (const int listed : log.listed) attended += listed;
  std::set<std::vector<int>> distinct;
  for (std::size_t at = 0; plan && at < log.listed.size(); ++at)
    distinct.insert({log.physical.begin() + static_cast<std::ptrdiff_t>(at) * log.stride,
                     log.physical.begin() + static_cast<std::ptrdiff_t>(at + 1) * log.stride});
  bool finite = true;
  for (const float logit : log.logits) finite = finite && std::abs(logit) < 1e4f;
  const auto graph = step.capture(static_cast<unsigned>(Part::all));
  step.time(*graph, 5);
  std::vector<double> times = step.time(*graph, 41);
  std::sort(times.begin(), times.end());
  const double kv =
      static_cast<double>(model.layers) * (plan ? 0.0 : static_cast<double>(step.bytes_of(Part::attend))) +
      attended * 4.0 * model.head_dim;
  const double bytes =
      static_cast<double>(model.weight_bytes()) + model.layers * static_cast<double>(step.bytes_of(Part::score)) + kv;
  const double ms = median(times), floor = bytes / rate * 1e3;
  const double sglang = model.layers == StepModel().layers ? c.sglang : 0;
  std::printf("%4dx%-7d %-20s %4d %6d %9.3f %9.3f %9.3f %8.0f%% %8.0f %7.2fx  %lld nodes%s\n", c.sequences, c.context,
              program ? program->name.c_str() : "full", pool.page_size(), model.layers, ms,
              times[times.size() * 9 / 10] - times[times.size() / 10], floor, 100.0 * floor / ms,
              c.sequences / ms * 1e3, sglang / ms, static_cast<long long>(graph->nodes()),
              finite ? "" : "  LOGITS NOT FINITE");
  if (plan)
    std::printf("      attended %.1f tokens a row, %zu distinct lists of %zu; %s\n",
                attended / static_cast<double>(log.listed.size()), distinct.size(), log.listed.size(),
                step.describe_linears().c_str());
  std::fflush(stdout);
  if (with_profile) profile(step, model, plan.has_value(), rate);
}

}  // namespace

int main(int count, char** words) {
  bool with_profile = false, with_full = false, linears = false, fused = true, rungs = false;
  std::vector<Case> cases;
  std::vector<std::string> flows;
  std::vector<int> pages;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    int sequences = 0, context = 0;
    if (word == "--profile") {
      with_profile = true;
    } else if (word == "--apart") {
      fused = false;
    } else if (word == "--rungs") {
      rungs = true;
    } else if (word == "--linears") {
      linears = true;
    } else if (word == "--flow" && i + 1 < count) {
      flows.emplace_back(words[++i]);
    } else if (word == "--page" && i + 1 < count && std::atoi(words[i + 1]) > 0 && 512 % std::atoi(words[i + 1]) == 0) {
      pages.push_back(std::atoi(words[++i]));
    } else if (linears && std::atoi(word.c_str()) > 0) {
      cases.push_back({std::atoi(word.c_str()), 0, 0});
    } else if (word == "--full") {
      with_full = true;
    } else if (std::sscanf(word.c_str(), "%dx%d", &sequences, &context) == 2) {
      Case chosen{sequences, context, 0};
      for (const Case& known : kCases)
        if (known.sequences == sequences && known.context == context) chosen = known;
      cases.push_back(chosen);
    } else {
      std::fprintf(stderr,
                   "bench_gpu_decode [--profile] [--full] [--apart] [--rungs] [--flow NAME|FILE.ir]... [--page "
                   "TOKENS]... [SEQUENCESxCONTEXT...], pages dividing 512 tokens; got %s\n",
                   word.c_str());
      return 2;
    }
  }
  if (cases.empty() && rungs) cases = {{64, 16384, 0}};
  if (cases.empty()) cases.assign(std::begin(kCases), std::end(kCases));
  if (flows.empty()) flows = {rungs ? "quest" : "centroid"};
  if (pages.empty()) pages = {16};
  try {
    const auto device = device::open(device::Kind::cuda);
    if (linears) {
      for (const Case& c : cases) sweep(device, c.sequences, 4.3e12);
      return 0;
    }
    const double rate = copy_rate(device);
    std::printf("%s; copy %.2f TB/s; datasheet 4.8 TB/s\n", device->describe().c_str(), rate * 1e-12);
    if (!rungs)
      std::printf("%-12s %-20s %4s %6s %9s %9s %9s %9s %8s %8s\n", "case", "arm", "page", "layers", "ms", "spread",
                  "floor ms", "of floor", "tok/s", "SGLang/us");
    bool right = true;
    for (const int page : pages) {
      // Cases with as many layers share a pool.
      std::map<int, std::vector<Case>> by_layers;
      for (const Case& c : cases) by_layers[layers_that_fit(*device, StepModel(), tokens_of(c, page))].push_back(c);
      for (auto it = by_layers.rbegin(); it != by_layers.rend(); ++it) {
        StepModel model;
        model.layers = it->first;
        std::int64_t tokens = 0;
        for (const Case& c : it->second) tokens = std::max(tokens, tokens_of(c, page));
        const StepPool pool(device, model, page, tokens, 3);
        for (const Case& c : it->second) {
          for (const std::string& flow : flows) {
            const ir::Program program = program_of(flow, page);
            if (rungs) {
              right = bench::run_rungs(device, pool, program, c.sequences, c.context, kMore) && right;
            } else {
              time_case(device, pool, program, c, fused, with_profile, rate);
            }
          }
          if (with_full) time_case(device, pool, std::nullopt, c, fused, with_profile, rate);
        }
      }
    }
    return right ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
