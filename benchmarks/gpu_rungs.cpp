// Rungs, each with all that the ones before it have:
//   1 a kernel for each op of the score; finish, select, norm and rotation, linears and attend are kernels as ever
//   2 ops fused into stages, products on the matrix unit; the finish and the selection in one kernel
//   3 the plan of a step is made on the device: the host waits for no length (rungs 1 and 2 download the lengths)
//   4 prepare, score and select in one kernel, where the flow and the number of rows allow it
//   5 one graph a step instead of a launch a kernel
//   6 the host runs ahead: the next step is queued before this one's token is read
// Of rungs 1 to 5 the host reads every token before the next step. Times are of the host's clock: they count its work.
#include "gpu_rungs.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "base/text.h"

namespace vortex::bench {
namespace {

using gpu_tests::FastStep, gpu_tests::Part, gpu_tests::StepModel;
using Clock = std::chrono::steady_clock;

constexpr unsigned kAll = static_cast<unsigned>(Part::all);

// A stage for each op that is computed.
compiler::Plan op_by_op(compiler::Plan plan) {
  std::vector<compiler::Stage> stages;
  for (const compiler::Stage& stage : plan.stages) {
    if (stage.kind == compiler::StageKind::summarize) {
      stages.push_back(stage);
      continue;
    }
    for (const ir::ValueId value : stage.nodes) {
      const ir::Node& node = plan.program.node(value);
      if (node.op->kind == ir::OpKind::source) continue;
      stages.push_back({.kind = stage.kind, .nodes = {}, .inputs = node.inputs, .outputs = {value}});
      for (const ir::ValueId input : node.inputs)
        if (plan.program.node(input).op->kind == ir::OpKind::source) stages.back().nodes.push_back(input);
      stages.back().nodes.push_back(value);
      stages.back().domain = stage.domain;
    }
  }
  plan.stages = std::move(stages);
  return plan;
}

struct Rung {
  const char* name;
  bool ops_apart, host_plan, graph, ahead;
  bool fused = false;
};
constexpr Rung kRungs[] = {
    {"a kernel an op", true, true, false, false},        {"fused stages", false, true, false, false},
    {"plan on the device", false, false, false, false},  {"prepare to select fused", false, false, false, false, true},
    {"a graph a step", false, false, true, false, true}, {"the host runs ahead", false, false, true, true, true}};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Difference {
  std::size_t lists = 0, equal = 0;  // of the first layer: later ones see other rounding
  double logits = 0;                 // normalised
  bool lengths = true;
};

Difference compare(const FastStep::Log& a, const FastStep::Log& b, int layers, int page_size) {
  Difference out;
  out.lists = a.listed.size() / static_cast<std::size_t>(layers);
  for (std::size_t row = 0; row < out.lists; ++row) {
    const std::ptrdiff_t begin = static_cast<std::ptrdiff_t>(row) * a.stride;
    const int pages = (a.listed[row] + page_size - 1) / page_size;
    out.lengths = out.lengths && a.listed[row] == b.listed[row];
    out.equal += a.listed[row] == b.listed[row] &&
                 std::equal(a.physical.begin() + begin, a.physical.begin() + begin + pages, b.physical.begin() + begin);
  }
  double error = 0, size = 0;
  for (std::size_t i = 0; i < a.logits.size(); ++i) {
    const double difference = static_cast<double>(a.logits[i]) - static_cast<double>(b.logits[i]);
    error += difference * difference, size += static_cast<double>(b.logits[i]) * static_cast<double>(b.logits[i]);
  }
  out.logits = std::sqrt(error / size);
  return out;
}

}  // namespace

bool run_rungs(const std::shared_ptr<device::Device>& device, const gpu_tests::StepPool& pool,
               const ir::Program& program, int sequences, int context, int more) {
  const StepModel& model = pool.model();
  const ir::Geometry geometry{
      .page_size = program.config.page_size, .head_dim = model.head_dim, .group = model.group(), .value_dim = 0};
  const compiler::Plan fused = compiler::compile(program, geometry);
  const compiler::Plan apart =
      op_by_op(compiler::compile(program, geometry, {.disabled_passes = {"canonicalize", "facts", "contract"}}));
  std::printf("rungs of %s, %d sequences of %d tokens, %d layers; the host's clock, median and spread\n",
              program.name.c_str(), sequences, context, model.layers);
  std::printf("  %-26s %9s %8s %9s %8s  %s\n", "rung", "ms", "spread", "brings", "launches", "against the one before");
  bool right = true;
  double before = 0;
  std::optional<FastStep::Log> last;
  for (const Rung& rung : kRungs) {
    FastStep step(device, pool, rung.ops_apart ? apart : fused,
                  {.sequences = sequences,
                   .context = context,
                   .more = more,
                   .fused = rung.fused,
                   .select_apart = rung.ops_apart});
    const unsigned parts = rung.host_plan ? kAll & ~static_cast<unsigned>(Part::plan) : kAll;
    const auto logged = step.capture(parts, true), graph = step.capture(parts);
    if (rung.host_plan) step.plan_on_host();
    step.time(*logged, 1);
    const FastStep::Log log = step.log();
    const auto one = [&] {
      if (rung.host_plan) step.plan_on_host();
      if (rung.graph) {
        step.stream().launch(*graph);
      } else {
        step.launch(parts);
      }
    };
    for (int i = 0; i < 5; ++i) one(), step.next_tokens();
    std::vector<double> times;
    for (int i = 0; i < (rung.ahead ? 5 : 21); ++i) {
      const int steps = rung.ahead ? 5 : 1;
      const auto begin = Clock::now();
      for (int k = 0; k < steps; ++k) one();
      step.next_tokens();
      times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count() / steps);
    }
    std::sort(times.begin(), times.end());
    const double ms = median(times);
    std::string checked = "first";
    if (last) {
      const Difference d = compare(log, *last, model.layers, pool.page_size());
      const bool equal = d.lengths && static_cast<double>(d.equal) >= 0.95 * static_cast<double>(d.lists) &&
                         d.logits <= 0.1 && std::isfinite(d.logits);
      checked = concat(d.equal, " of ", d.lists, " lists of layer 0 equal, logits differ by ", d.logits,
                       equal ? "" : "  WRONG");
      right = right && equal;
    }
    std::printf("  %-26s %9.3f %8.3f %9s %8lld  %s\n", rung.name, ms,
                times[times.size() * 9 / 10] - times[times.size() / 10],
                before == 0 ? "" : concat(static_cast<int>(std::lround(100 * (before - ms) / before)), " %").c_str(),
                static_cast<long long>(rung.graph ? 1 : graph->nodes()), checked.c_str());
    std::fflush(stdout);
    before = ms, last = log;
  }
  return right;
}

}  // namespace vortex::bench
