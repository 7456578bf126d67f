// Every op in every place (the case list of the CPU backend) as CUDA kernels: printed and planned everywhere, compared
// with the interpreter where a GPU is. TEST_OPS=shift,param in the environment: the cases of these ops alone.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <numeric>
#include <random>
#include <set>

#include "attention/cuda/chain.h"
#include "base/float16.h"
#include "base/text.h"
#include "base/thread_pool.h"
#include "device/cuda/nvrtc.h"
#include "device/null/null_device.h"
#include "gpu/many_flows.h"
#include "gpu/open.h"
#include "ir/interpret.h"
#include "unit/codegen/op_cases.h"

namespace vortex::gpu_tests {
namespace {

using device::Array;

constexpr double kBound = 2e-4;  // normalised error: products on the matrix unit keep 16 bits of the row's values

// The program as it is written: the canonical form may drop the op that a case is about.
compiler::Plan plan_of(const ir::Program& program, const ir::Geometry& geometry) {
  return compiler::compile(program, geometry,
                           {.disabled_passes = {"canonicalize"}, .keep_text = false, .verify_each = false});
}

std::vector<codegen::OpCase> all_cases() {
  std::vector<codegen::OpCase> out = codegen::op_cases();
  out.push_back({"flow centroid", "", codegen::centroid_flow()});
  out.push_back({"flow quest", "", codegen::quest_flow()});
  out.push_back({"flow deviation", "", codegen::deviation_flow()});
  out.push_back({"flow oracle", "", codegen::oracle_flow()});
  out.push_back({"flow random", "", codegen::random_flow()});
  if (const char* asked = std::getenv("TEST_OPS")) {
    const std::string names = concat(",", asked, ",");
    std::erase_if(out, [&](const codegen::OpCase& at) { return names.find(concat(",", at.op, ",")) == names.npos; });
  }
  return out;
}

// One sequence of random keys and values, its summaries and scores by the device and by the interpreter.
class OpHarness {
 public:
  static constexpr int kHeads = 2, kPhysical = 4, kCandidates = 40, kLayer = 3, kLayers = 30;
  static constexpr std::int64_t kStep = 17;

  OpHarness(std::shared_ptr<device::Device> device, const ir::Geometry& geometry)
      : device_(std::move(device)), stream_(device_->make_stream()), geometry_(geometry) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const std::int64_t row = geometry.page_size * geometry.head_dim;
    pages_ = kCandidates + 3;
    tokens_ = static_cast<int>(pages_ * geometry.page_size - 1);
    for (std::int64_t i = 0; i < kHeads * pages_ * row; ++i) {
      k_.push_back(to_bfloat16(normal(random)));
      v_.push_back(to_bfloat16(normal(random)));
    }
    for (std::int64_t i = 0; i < kHeads * geometry.group * geometry.head_dim; ++i) q_.push_back(normal(random) * 4.0f);
    // Physical pages in any order; K and V of one head side by side.
    const std::int64_t per_page = geometry.page_size / kPhysical, table = pages_ * per_page;
    table_.resize(static_cast<std::size_t>(table));
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), random);
    const std::int64_t plane = kPhysical * geometry.head_dim;
    std::vector<BFloat16> kv(static_cast<std::size_t>(table * kHeads * 2 * plane));
    for (std::int64_t page = 0; page < table; ++page) {
      for (std::int64_t head = 0; head < kHeads; ++head) {
        BFloat16* to = kv.data() + (table_[static_cast<std::size_t>(page)] * kHeads + head) * 2 * plane;
        std::copy_n(k_.data() + head * pages_ * row + page * plane, plane, to);
        std::copy_n(v_.data() + head * pages_ * row + page * plane, plane, to + plane);
      }
    }
    device_kv_ = device::upload(device_, *stream_, kv);
    device_table_ = device::upload(device_, *stream_, table_);
    device_q_ = device::upload(device_, *stream_, q_);
    device_tokens_ = device::upload(device_, *stream_, std::vector<int>{tokens_});
    device_steps_ = device::upload(device_, *stream_, std::vector<std::int64_t>{kStep});
    plans_ = Array<cuda::SequencePlan>(device_, 1);
  }

  // "" or what is wrong.
  std::string run(const ir::Program& program, const compiler::Plan& plan, const attention::CudaFlowKernels& kernels) {
    const std::int64_t plane = kPhysical * geometry_.head_dim;
    auto* base = device_kv_.data();
    attention::CudaLayer layer{.geometry = {kHeads, static_cast<int>(geometry_.group),
                                            static_cast<int>(geometry_.head_dim), kPhysical, 0.125f, 0, 0},
                               .kv = {VORTEX_BFLOAT16,
                                      {base, kHeads * 2 * plane, 2 * plane, geometry_.head_dim},
                                      {base + plane, kHeads * 2 * plane, 2 * plane, geometry_.head_dim},
                                      {},
                                      {}},
                               .batch = {1, device_table_.data(), static_cast<std::int64_t>(table_.size()),
                                         device_tokens_.data(), nullptr, device_steps_.data()},
                               .q = device_q_.data(),
                               .q_stride = static_cast<std::int64_t>(q_.size()),
                               .layer = kLayer,
                               .layers = kLayers};
    const attention::CudaParameters parameters(device_, kernels.flow().parameters, program.weights);
    layer.parameters = &parameters;
    // What the steps before left of the states: numbers in both halves, of all layers and heads.
    std::mt19937 random(3);
    std::normal_distribution<float> normal;
    std::vector<float> carried(static_cast<std::size_t>(
        std::max<std::int64_t>(floats_before(kernels.flow(), kernels.flow().states.size()), 1)));
    for (float& x : carried) x = normal(random);
    const Array<float> device_carried = device::upload(device_, *stream_, carried);
    const auto places =
        device::upload(device_, *stream_, std::vector<cuda::FlowArguments::Carried>{{device_carried.data(), pages_}});
    layer.carried = places.data();

    std::vector<Array<std::uint8_t>> arenas;
    std::vector<vortex_field> fields;
    for (const codegen::FieldLayout& field : kernels.flow().fields) {
      arenas.emplace_back(device_, static_cast<std::int64_t>(table_.size()) * kHeads * field.elements * 2);
      arenas.back().fill(*stream_, 0xff);
      fields.push_back({arenas.back().data(), kHeads * field.elements, field.elements});
    }
    // A page is summarized when its last token is the newest: once for each length that ends one.
    std::vector<int> lengths;
    for (std::int64_t page = 0; page + 1 < pages_; ++page)
      lengths.push_back(static_cast<int>((page + 1) * geometry_.page_size));
    const Array<int> device_lengths = device::upload(device_, *stream_, lengths);
    for (std::size_t page = 0; page < lengths.size(); ++page) {
      attention::CudaLayer then = layer;
      then.batch.tokens = device_lengths.data() + page;
      kernels.summarize(*stream_, then, fields);
    }
    const int capacity = kernels.candidates(tokens_) + 5;
    const std::int64_t stride = kernels.workspace_floats(capacity);
    Array<float> scores(device_, kHeads * capacity), workspace(device_, std::max<std::int64_t>(kHeads * stride, 1));
    const std::int64_t rest_row = geometry_.group * (1 + geometry_.head_dim);
    Array<float> rest(device_, kHeads * rest_row);
    rest.fill(*stream_, 0xff);
    scores.fill(*stream_, 0xff);
    workspace.fill(*stream_, 0xff);
    kernels.plan(*stream_, layer, 1, nullptr, plans_.data());
    const attention::CudaScores of_rows{.plans = plans_.data(),
                                        .scores = scores.data(),
                                        .workspace = workspace.data(),
                                        .workspace_stride = stride,
                                        .capacity = capacity,
                                        .rest = rest.data()};
    kernels.score(*stream_, layer, fields, of_rows);
    const std::vector<float> came = scores.download(*stream_);
    Lists lists;
    if (plan.program.selection >= 0) {
      const int pages = static_cast<int>(pages_), physical = pages * static_cast<int>(geometry_.page_size) / kPhysical;
      Array<int> listed(device_, kHeads * pages), counts(device_, kHeads), of_memory(device_, kHeads * physical),
          tokens(device_, kHeads);
      for (Array<int>* each : {&listed, &counts, &of_memory, &tokens}) each->fill(*stream_, 0xff);
      kernels.select(*stream_, layer, fields, of_rows,
                     {{static_cast<int>(geometry_.page_size), listed.data(), pages, counts.data()},
                      of_memory.data(),
                      physical,
                      tokens.data()});
      lists = {listed.download(*stream_), counts.download(*stream_), of_memory.download(*stream_),
               tokens.download(*stream_), rest.download(*stream_)};
    }
    std::vector<std::vector<std::uint8_t>> stored;
    for (const auto& arena : arenas) stored.push_back(arena.download(*stream_));
    if (device_->kind() != device::Kind::cuda) return "";
    const std::string wrong = judge(program, plan, kernels.flow(), came, stored, capacity, carried, lists);
    if (!wrong.empty()) return wrong;
    return judge_states(kernels.flow(), carried, device_carried.download(*stream_));
  }

 private:
  struct Lists {
    std::vector<int> pages, counts, physical, tokens;  // of each KV head
    std::vector<float> rest;                           // [kHeads, group · (1 + head_dim)]
  };

  std::string judge_rest(const std::vector<float>& came, std::int64_t head, const ir::Rest& wanted) {
    const auto group = static_cast<std::size_t>(geometry_.group), dim = static_cast<std::size_t>(geometry_.head_dim);
    const float* const row = came.data() + static_cast<std::size_t>(head) * group * (1 + dim);
    double error = 0, size = 0;
    for (std::size_t g = 0; g < group; ++g) {
      const double logit = static_cast<double>(row[g]);
      if (std::isinf(wanted.logit[g])) {  // nothing is left: the value means nothing
        if (logit != wanted.logit[g]) return concat("a rest of ", logit, " of nothing");
        continue;
      }
      error += (logit - wanted.logit[g]) * (logit - wanted.logit[g]), size += wanted.logit[g] * wanted.logit[g];
      for (std::size_t d = 0; d < dim; ++d) {
        const double value = static_cast<double>(row[group + g * dim + d]), expected = wanted.value[g * dim + d];
        error += (value - expected) * (value - expected), size += expected * expected;
      }
    }
    error = std::sqrt(error / (size + 1e-30));
    worst_ = std::max(worst_, error);
    return error <= kBound ? "" : concat("a rest with a normalised error of ", error);
  }

  // A row's lists hold the candidates that are in its set, between sinks and recent pages.
  std::string judge_lists(const Lists& lists, std::int64_t head, const std::vector<std::int64_t>& candidates,
                          const float* in_set) const {
    std::vector<int> expected, physical;
    std::size_t at = 0;
    for (std::int64_t page = 0; page < pages_; ++page) {
      const bool is_candidate = at < candidates.size() && candidates[at] == page;
      if (is_candidate && in_set[at++] == 0.0f) continue;
      expected.push_back(static_cast<int>(page));
      const std::int64_t parts = geometry_.page_size / kPhysical;
      for (std::int64_t part = 0; part < parts; ++part)
        physical.push_back(table_[static_cast<std::size_t>(page * parts + part)]);
    }
    const auto h = static_cast<std::size_t>(head), stride = lists.pages.size() / kHeads;
    const auto begins = [](const std::vector<int>& came, std::size_t from, const std::vector<int>& wanted) {
      return from + wanted.size() <= came.size() &&
             std::equal(wanted.begin(), wanted.end(), came.begin() + static_cast<std::ptrdiff_t>(from));
    };
    if (lists.counts[h] != static_cast<int>(expected.size()))
      return concat("a list of ", lists.counts[h], " pages, not ", expected.size());
    if (!begins(lists.pages, h * stride, expected)) return "another list than the set's";
    if (!begins(lists.physical, h * (lists.physical.size() / kHeads), physical)) return "other physical pages";
    const std::int64_t left_out = pages_ - static_cast<std::int64_t>(expected.size());
    if (lists.tokens[h] != tokens_ - left_out * geometry_.page_size) return concat(lists.tokens[h], " tokens listed");
    return "";
  }

  // Floats of the first states of a flow.
  std::int64_t floats_before(const codegen::CudaFlow& flow, std::size_t count) const {
    std::int64_t out = 0;
    for (std::size_t i = 0; i < count; ++i)
      out += 2 * kLayers * kHeads * flow.states[i].elements * (flow.states[i].of_pages ? pages_ : 1);
    return out;
  }
  // Where an element of a state lies, as the step reads or leaves it.
  std::size_t place(const codegen::CudaFlow& flow, std::size_t state, std::int64_t head, bool next,
                    std::int64_t element, std::int64_t page) const {
    const codegen::StateLayout& layout = flow.states[state];
    const std::int64_t room = layout.of_pages ? pages_ : 1, row = layout.elements * room;
    const std::int64_t half = (kStep + (next ? 1 : 0)) % 2 * kLayers * kHeads * row;
    return static_cast<std::size_t>(floats_before(flow, state) + half + (kLayer * kHeads + head) * row +
                                    element * room + (layout.of_pages ? page : 0));
  }

  // The states of a row as the step reads them; their shapes are those of the nodes that read them.
  ir::States states_of(const ir::Program& program, const codegen::CudaFlow& flow, const std::vector<float>& carried,
                       std::int64_t head, const std::vector<std::int64_t>& candidates) const {
    ir::States out;
    for (std::size_t s = 0; s < flow.states.size(); ++s) {
      const codegen::StateLayout& layout = flow.states[s];
      ir::Tensor& tensor = out[layout.name];
      if (layout.of_pages) tensor.shape.push_back(std::ssize(candidates));
      for (const ir::Axis& axis : ir::reader_of(program, layout.name)->type.axes)
        tensor.shape.push_back(*ir::bind(axis.extent, geometry_));
      for (std::size_t i = 0; i < (layout.of_pages ? candidates.size() : 1); ++i)
        for (std::int64_t e = 0; e < layout.elements; ++e)
          tensor.data.push_back(static_cast<double>(carried[place(flow, s, head, false, e, candidates[i])]));
    }
    return out;
  }

  // Those of the next step are what the interpreter says, and all other numbers are as they were.
  std::string judge_states(const codegen::CudaFlow& flow, const std::vector<float>& carried,
                           const std::vector<float>& came) {
    std::vector<bool> written(carried.size(), false);
    for (std::size_t head = 0; head < next_.size(); ++head)
      for (std::size_t s = 0; s < flow.states.size(); ++s) {
        const codegen::StateLayout& layout = flow.states[s];
        const std::vector<double>& expected = next_[head].at(layout.name).data;
        double error = 0, size = 0;
        for (std::size_t at = 0; at < expected.size(); ++at) {
          const std::int64_t e = static_cast<std::int64_t>(at) % layout.elements;
          const std::int64_t page = layout.of_pages ? candidates_[at / static_cast<std::size_t>(layout.elements)] : 0;
          const std::size_t from = place(flow, s, static_cast<std::int64_t>(head), true, e, page);
          const double difference = static_cast<double>(came[from]) - expected[at];
          error += difference * difference, size += expected[at] * expected[at];
          written[from] = true;
        }
        error = std::sqrt(error / (size + 1e-30));
        worst_ = std::max(worst_, error);
        if (!(error <= kBound)) return concat("state ", layout.name, " of head ", head, ": normalised error ", error);
      }
    for (std::size_t i = 0; i < carried.size(); ++i)
      if (!written[i] && came[i] != carried[i]) return concat("number ", i, " of the states was written");
    return "";
  }

  std::string judge(const ir::Program& program, const compiler::Plan& plan, const codegen::CudaFlow& flow,
                    const std::vector<float>& came, const std::vector<std::vector<std::uint8_t>>& stored, int capacity,
                    const std::vector<float>& carried, const Lists& lists) {
    next_.clear();
    ir::Environment environment{
        .geometry = geometry_, .tokens = tokens_, .step = kStep, .layer = kLayer, .layers = kLayers, .scale = 0.125};
    const std::int64_t per_page = geometry_.page_size / kPhysical, row = geometry_.page_size * geometry_.head_dim;
    const std::vector<std::int64_t> candidates = ir::candidates_of(program.config, pages_);
    for (std::int64_t head = 0; head < kHeads; ++head) {
      environment.kv_head = head;
      std::map<std::string, ir::Tensor> summaries;
      // Every candidate, and every group of pages that is scored.
      std::map<std::int64_t, std::vector<std::int64_t>> instances{{1, candidates}};
      for (const ir::Summary& summary : program.summaries) {
        const std::int64_t size = program.node(summary.value).type.domain.pages;
        const ir::GroupRange groups = ir::groups_of(size, candidates.front(), std::ssize(candidates), pages_ - 1);
        if (size == 1 || instances.contains(size)) continue;
        for (std::int64_t i = 0; i < groups.count; ++i) instances[size].push_back(groups.first + i);
      }
      for (const auto& [size, indices] : instances)
        for (const std::int64_t index : indices) {
          const auto slice = [&](const std::vector<BFloat16>& from) {
            ir::Tensor out{{size * geometry_.page_size, geometry_.head_dim}, {}};
            for (std::int64_t i = 0; i < size * row; ++i)
              out.data.push_back(static_cast<double>(
                  to_float(from[static_cast<std::size_t>((head * pages_ + index * size) * row + i)])));
            return out;
          };
          const std::map<std::string, ir::Tensor> exact =
              ir::interpret_summaries(plan.program, environment, slice(k_), slice(v_), size);
          for (std::size_t f = 0; f < flow.fields.size(); ++f) {
            const codegen::FieldLayout& field = flow.fields[f];
            if (field.pages != size) continue;
            const std::int64_t physical = table_[static_cast<std::size_t>((index + 1) * size * per_page - 1)];
            const auto* values =
                reinterpret_cast<const BFloat16*>(stored[f].data()) + (physical * kHeads + head) * field.elements;
            for (std::int64_t e = 0; e < field.elements; ++e) {
              const double value = static_cast<double>(to_float(values[e]));
              const double wanted = exact.at(field.name).data[static_cast<std::size_t>(e)];
              summaries[field.name].data.push_back(value);
              if ((std::isnan(wanted) && std::isnan(value)) || wanted == value) continue;
              if (!(std::abs(wanted - value) <= 0x1p-8 * std::abs(wanted) + 2e-6))
                return concat("summary ", field.name, " is ", value, " and should be ", wanted);
            }
          }
        }
      for (const ir::Summary& summary : program.summaries) {
        ir::Tensor& tensor = summaries[summary.name];
        const auto count = static_cast<std::int64_t>(instances[program.node(summary.value).type.domain.pages].size());
        tensor.shape = {count};
        std::int64_t elements = 1;
        for (const ir::Axis& axis : program.node(summary.value).type.axes) {
          tensor.shape.push_back(*ir::bind(axis.extent, geometry_));
          elements *= tensor.shape.back();
        }
        tensor.data.resize(static_cast<std::size_t>(count * elements));  // the compiled flow may not use it
      }
      const std::int64_t q_row = geometry_.group * geometry_.head_dim;
      ir::Tensor query{{geometry_.group, geometry_.head_dim}, {}};
      for (std::int64_t i = 0; i < q_row; ++i)
        query.data.push_back(static_cast<double>(q_[static_cast<std::size_t>(head * q_row + i)] * 0.125f));
      const ir::States states = states_of(program, flow, carried, head, candidates);
      next_.push_back(ir::interpret_states(program, environment, query, summaries, candidates, states));
      candidates_ = candidates;
      if (program.rest_logit >= 0) {
        const ir::Rest wanted = ir::interpret_rest(program, environment, query, summaries, candidates, states);
        if (const std::string wrong = judge_rest(lists.rest, head, wanted); !wrong.empty()) return wrong;
      }
      if (plan.program.selection >= 0) {
        const std::vector<double> chosen =
            ir::interpret_chosen(program, environment, query, summaries, candidates, states);
        const float* const in_set = came.data() + head * capacity;
        for (std::size_t i = 0; i < chosen.size(); ++i)
          if (static_cast<double>(in_set[i]) != chosen[i])
            return concat("page ", i, " of KV head ", head, " is ", in_set[i], " in the set, not ", chosen[i]);
        if (const std::string wrong = judge_lists(lists, head, candidates, in_set); !wrong.empty())
          return concat("KV head ", head, ": ", wrong);
        continue;
      }
      const std::vector<double> expected =
          ir::interpret_scores(program, environment, query, summaries, candidates, states);
      double error = 0, size = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double a = static_cast<double>(came[static_cast<std::size_t>(head * capacity) + i]), b = expected[i];
        if (std::isnan(a) != std::isnan(b) || (std::isinf(b) && a != b))
          return concat("score ", i, " is ", a, ", not ", b);
        if (std::isnan(b) || std::isinf(b)) continue;
        error += (a - b) * (a - b);
        size += b * b;
      }
      error = std::sqrt(error / (size + 1e-30));
      worst_ = std::max(worst_, error);
      if (!(error <= kBound)) return concat("normalised error ", error);
    }
    return "";
  }

  std::shared_ptr<device::Device> device_;
  std::unique_ptr<device::Stream> stream_;
  ir::Geometry geometry_;
  std::int64_t pages_ = 0;
  int tokens_ = 0;
  std::vector<BFloat16> k_, v_;  // [kHeads, pages, page_size, head_dim]
  std::vector<float> q_;
  std::vector<int> table_;
  std::vector<ir::States> next_;  // [kHeads] by the interpreter
  std::vector<std::int64_t> candidates_;
  Array<BFloat16> device_kv_;
  Array<int> device_table_, device_tokens_;
  Array<std::int64_t> device_steps_;
  Array<float> device_q_;
  Array<cuda::SequencePlan> plans_;

 public:
  double worst_ = 0;
};

struct Case : PackedFlow {
  std::string op;
  ir::Program program;
  compiler::Plan plan;
};

std::vector<Case> cases_of(const ir::Geometry& geometry, bool sets) {
  std::vector<Case> cases;
  for (codegen::OpCase& at : all_cases()) {
    Case out;
    at.program.config.page_size = geometry.page_size;
    out.program = codegen::with_numbers(at.program, geometry);
    if (out.program.rest_logit >= 0) out.program.config.budget = 12;
    out.plan = plan_of(out.program, geometry);
    // A score of the pages of a set is compiled to a set, too.
    if ((out.plan.program.selection >= 0 || out.program.rest_logit >= 0) != sets) continue;
    out.printed = codegen::print_cuda(out.plan);
    out.name = at.name, out.op = at.op, out.prefix = concat("c", cases.size(), "_"), out.config = out.program.config;
    cases.push_back(std::move(out));
  }
  return cases;
}

constexpr int kOfAUnit = 24;

void run_all(const std::shared_ptr<device::Device>& device, const ir::Geometry& geometry, bool sets) {
  const auto begin = std::chrono::steady_clock::now();
  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  std::vector<Case> cases = cases_of(geometry, sets);
  ThreadPool threads(0);
  if (sets) {  // with the kernels of a step, which select
    threads.for_each(std::ssize(cases), [&](std::int64_t i, int) {
      Case& at = cases[static_cast<std::size_t>(i)];
      at.kernels = std::make_unique<attention::CudaFlowKernels>(*device, at.plan);
    });
  } else {
    load(*device, all_of(cases), kOfAUnit, threads);
  }
  const bool measured = device->kind() == device::Kind::cuda;
  if (measured)
    std::printf("      %zu cases compiled by %.1f s on %d threads\n", cases.size(), seconds(), threads.threads());
  std::fflush(stdout);
  OpHarness harness(device, geometry);
  for (const Case& at : cases) {
    if (at.kernels == nullptr) continue;  // load has said so
    EXPECT_EQ(harness.run(at.program, at.plan, *at.kernels), "") << at.name;
  }
  if (measured) {
    std::printf(
        "MEASURED %zu cases of ops at page_size %d, head_dim %d, group %d: worst normalised error %.2g, in %.1f s\n",
        cases.size(), static_cast<int>(geometry.page_size), static_cast<int>(geometry.head_dim),
        static_cast<int>(geometry.group), harness.worst_, seconds());
    std::fflush(stdout);
  }
}

TEST(Ops, EveryOpIsPrintedAndPlanned) {
  for (const bool sets : {false, true}) {
    run_all(device::open(device::Kind::null), {16, 64, 3}, sets);
    run_all(device::open(device::Kind::null), {4, 20, 2}, sets);
  }
}

// All cases compile alike; one of each op keeps the test short.
TEST(OpsSlow, OneCaseOfEachOpCompiles) {
  try {
    device::nvrtc_version();
  } catch (const MachineError& error) {
    GTEST_SKIP() << error.what();
  }
  std::set<std::string> seen;
  const auto compile = [](const device::Source& source, const std::string& name) {
    const device::Compiled compiled = device::compile_text(source, "sm_80");
    EXPECT_EQ(compiled.log.find("warning"), std::string::npos) << name << ": " << compiled.log;
  };
  const auto first = [&](const Case& at) { return seen.insert(at.op).second; };
  std::vector<Case> numbers = cases_of({16, 64, 3}, false);
  std::vector<PackedFlow*> some;
  for (Case& at : numbers)
    if (first(at)) some.push_back(&at);
  for (std::size_t i = 0; i < some.size(); i += kOfAUnit)
    compile(source_of(std::span(some).subspan(i, std::min<std::size_t>(kOfAUnit, some.size() - i))), some[i]->name);
  for (const Case& at : cases_of({16, 64, 3}, true))
    if (first(at)) compile(attention::CudaFlowKernels::source(at.printed), at.name);
  if (std::getenv("TEST_OPS") != nullptr) return;
  for (const ir::OpDef* op : ir::all_ops()) EXPECT_TRUE(seen.contains(op->name)) << op->name;
}

TEST(Ops, EveryOpInEveryPlaceEqualsTheInterpreter) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  run_all(device, {16, 64, 3}, false);
  run_all(device, {4, 20, 2}, false);
}

TEST(Ops, SetsAndRestsAreThoseOfTheInterpreter) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  run_all(device, {16, 64, 3}, true);
  run_all(device, {4, 20, 2}, true);
}

}  // namespace
}  // namespace vortex::gpu_tests
