// Random programs as CUDA kernels against the interpreter, many in one translation unit. What a program feels of
// rounding sets its bound, as on the CPU (unit/codegen/random_test.cpp); those that CUDA refuses are counted by reason.
//   VORTEX_PROGRAMS=5000 VORTEX_SEED=7 test_gpu --gtest_filter='RandomPrograms*'
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

#include "attention/cuda/chain.h"
#include "base/float16.h"
#include "base/thread_pool.h"
#include "device/cuda/nvrtc.h"
#include "gpu/many_flows.h"
#include "gpu/open.h"
#include "ir/interpret.h"
#include "unit/ir/random_program.h"

namespace vortex::gpu_tests {
namespace {

using device::Array;

constexpr int kOfAUnit = 50;
constexpr ir::Geometry kTiles{.page_size = 16, .head_dim = 32, .group = 4};  // products go to the matrix unit
constexpr double kOverRounding = 20;  // times what the program's own rounding moves a score, at most

struct Flow : PackedFlow {
  std::uint64_t seed = 0;
  ir::Geometry geometry;
  compiler::Plan plan;
};

// The words of a refusal without the names in it.
std::string reason_of(const UserError& error) {
  const std::string text = error.what();
  const std::size_t begin = text.find("; ") + 2;
  std::string came = text.substr(begin, text.find("; ", begin) - begin);
  if (const std::size_t type = came.find(" on "); type != std::string::npos && came.starts_with("the op"))
    came = text.substr(text.find("] ") + 2, begin - text.find("] ") - 4);
  return came;
}

// `count` programs that CUDA has, made of seeds from `seed` on; `refused` counts the others.
std::vector<Flow> programs_from(std::uint64_t seed, int count, std::map<std::string, int>& refused) {
  std::vector<Flow> out;
  for (std::uint64_t at = seed; static_cast<int>(out.size()) < count; ++at) {
    const ir::Geometry geometry = at % 2 == 0 ? ir::kSmall : kTiles;
    ir::Program program = ir::RandomProgram(at, 2 + static_cast<int>(at % 24), geometry).program();
    program.config.summary_dtype = at % 4 < 3 ? ir::DType::bf16 : ir::DType::f32;
    try {
      Flow flow;
      flow.seed = at, flow.geometry = geometry, flow.plan = compiler::compile(program, geometry);
      flow.config = flow.plan.program.config;
      flow.printed = codegen::print_cuda(flow.plan);
      const bool has_sets = std::ranges::any_of(flow.plan.program.nodes,
                                                [](const ir::Node& node) { return node.type.dtype == ir::DType::set; });
      if (has_sets || flow.printed.computes_budget) {
        ++refused[has_sets ? "a set, which this test does not drive" : "a budget, which this test does not drive"];
        continue;
      }
      flow.prefix = concat("p", at, "_"), flow.name = concat("seed ", at);
      out.push_back(std::move(flow));
    } catch (const UserError& error) {
      ++refused[reason_of(error)];
    }
  }
  return out;
}

// A sequence of random keys and values under one geometry: what the device makes of it, and whether that is right.
class Judge {
 public:
  static constexpr int kHeads = 2, kPages = 38, kLayer = 3, kLayers = 5;
  static constexpr std::int64_t kStep = 17;

  Judge(std::shared_ptr<device::Device> device, const ir::Geometry& geometry)
      : device_(std::move(device)), stream_(device_->make_stream()), chain_(*device_), geometry_(geometry) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    tokens_ = static_cast<int>(kPages * geometry.page_size - 1);
    // Physical pages of the flow's size, in any order: [page, head, {K, V}, token, channel].
    table_.resize(kPages);
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), random);
    plane_ = geometry.page_size * geometry.head_dim;
    for (std::int64_t i = 0; i < kPages * kHeads * 2 * plane_; ++i) kv_.push_back(to_bfloat16(normal(random)));
    for (std::int64_t i = 0; i < kHeads * geometry.group * geometry.head_dim; ++i) q_.push_back(normal(random) * 2.0f);
    std::vector<int> lengths;  // a page is summarized when its last token is the newest
    for (int page = 0; page + 1 < kPages; ++page) lengths.push_back((page + 1) * static_cast<int>(geometry.page_size));
    device_kv_ = device::upload(device_, *stream_, kv_);
    device_table_ = device::upload(device_, *stream_, table_);
    device_q_ = device::upload(device_, *stream_, q_);
    device_lengths_ = device::upload(device_, *stream_, lengths);
    device_tokens_ = device::upload(device_, *stream_, std::vector<int>{tokens_});
    device_steps_ = device::upload(device_, *stream_, std::vector<std::int64_t>{kStep});
    plans_ = Array<cuda::SequencePlan>(device_, 1);
  }

  struct Came {
    std::vector<float> scores;                         // [heads, capacity]
    std::vector<std::vector<std::uint8_t>> summaries;  // [fields] of [page, head, elements]
    std::vector<float> carried, next;                  // states before the step and after it, as the device has them
    int capacity = 0;
  };

  Came run(const Flow& flow) {
    auto* const base = device_kv_.data();
    attention::CudaLayer layer{
        .geometry = {kHeads, static_cast<int>(geometry_.group), static_cast<int>(geometry_.head_dim),
                     static_cast<int>(geometry_.page_size), kScale, 0, 0},
        .kv = {VORTEX_BFLOAT16,
               {base, kHeads * 2 * plane_, 2 * plane_, geometry_.head_dim},
               {base + plane_, kHeads * 2 * plane_, 2 * plane_, geometry_.head_dim},
               {},
               {}},
        .batch = {kPages - 1, device_table_.data(), 0, device_lengths_.data(), nullptr, device_steps_.data()},
        .q = device_q_.data(),
        .q_stride = static_cast<std::int64_t>(q_.size()),
        .layer = kLayer,
        .layers = kLayers};
    const attention::CudaParameters parameters(device_, flow.printed.parameters, flow.plan.program.weights);
    layer.parameters = &parameters;
    std::vector<Array<std::uint8_t>> arenas;
    std::vector<vortex_field> fields;
    for (const codegen::FieldLayout& field : flow.printed.fields) {
      arenas.emplace_back(device_, kPages * kHeads * field.elements * bytes_of(field));
      arenas.back().fill(*stream_, 0xff);
      fields.push_back({arenas.back().data(), kHeads * field.elements, field.elements});
    }
    flow.kernels->summarize(*stream_, layer, fields);  // a sequence of each length, over the same pages
    layer.batch.sequences = 1, layer.batch.tokens = device_tokens_.data();
    layer.batch.page_table_stride = kPages;
    Came out;
    out.carried.resize(static_cast<std::size_t>(std::max<std::int64_t>(place(flow, flow.printed.states.size()), 1)));
    std::mt19937 random(3);
    for (float& x : out.carried) x = std::normal_distribution<float>()(random);
    const Array<float> carried = device::upload(device_, *stream_, out.carried);
    const auto places =
        device::upload(device_, *stream_, std::vector<cuda::FlowArguments::Carried>{{carried.data(), kPages}});
    layer.carried = places.data();
    out.capacity = flow.kernels->candidates(tokens_) + 5;
    const std::int64_t stride = flow.kernels->workspace_floats(out.capacity);
    Array<float> scores(device_, kHeads * out.capacity), workspace(device_, std::max<std::int64_t>(kHeads * stride, 1));
    scores.fill(*stream_, 0xff);
    workspace.fill(*stream_, 0xff);
    chain_.plan(*stream_, layer.batch, &flow.plan.program.config, 0, nullptr, plans_.data());
    flow.kernels->score(*stream_, layer, fields,
                        {plans_.data(), scores.data(), workspace.data(), stride, out.capacity});
    out.scores = scores.download(*stream_);
    out.next = carried.download(*stream_);
    for (const auto& arena : arenas) out.summaries.push_back(arena.download(*stream_));
    return out;
  }

  enum class Verdict { equal, overflowed, chaotic, wrong };
  // Safe to call from many threads. `why`: what is wrong; `worst`: largest error, in parts of its bound.
  Verdict judge(const Flow& flow, const Came& came, std::string& why, double& worst) const {
    const ir::Program& program = flow.plan.program;
    if (hangs_on_last_bits(program)) return Verdict::chaotic;
    const std::vector<std::int64_t> candidates = ir::candidates_of(program.config, kPages);
    const bool by_tiles = std::any_of(flow.printed.stages.begin(), flow.printed.stages.end(),
                                      [](const codegen::CudaStage& stage) { return stage.threads == 0; });
    const double moved_by = by_tiles ? 0x1p-16 : 1e-6;  // products keep 16 bits of the row's values
    worst = 0;
    for (int head = 0; head < kHeads; ++head) {
      const Row row = row_of(flow, came, head, candidates, why);
      if (!why.empty()) return Verdict::wrong;
      if (row.chaotic) return Verdict::chaotic;
      const std::vector<double> exact = made(program, row, candidates);
      const std::vector<float> got = read(flow, came, head, exact.size(), candidates);
      for (std::size_t i = candidates.size(); i < static_cast<std::size_t>(came.capacity); ++i) {
        const float beside = came.scores[static_cast<std::size_t>(head * came.capacity) + i];
        if (std::bit_cast<std::uint32_t>(beside) == 0xffffffffu) continue;
        why = concat("head ", head, ": a score is written past the candidates");
        return Verdict::wrong;
      }
      std::vector<double> moved = sensitivity(program, row, exact, candidates, moved_by, 4);
      // The scores, then each state of the next step.
      std::vector<std::size_t> ends{candidates.size()};
      for (const std::size_t s : by_name(flow)) {
        const codegen::StateLayout& state = flow.printed.states[s];
        ends.push_back(ends.back() +
                       static_cast<std::size_t>(state.elements) * (state.of_pages ? candidates.size() : 1));
      }
      VORTEX_CHECK(ends.back() == exact.size(), ends.back(), " numbers of ", exact.size());
      bool closer = false;
      for (std::size_t part = 0; part < ends.size(); ++part) {
        const std::size_t begin = part == 0 ? 0 : ends[part - 1];
        double size = 0, error = 0, most = 0;
        std::size_t at = begin;
        for (std::size_t i = begin; i < ends[part]; ++i) {
          if (!std::isfinite(exact[i]) || std::abs(exact[i]) > 1e37) return Verdict::overflowed;
          size = std::max(size, std::abs(exact[i]));
          most = std::max(most, moved[i]);
          const double difference = std::abs(static_cast<double>(got[i]) - exact[i]);
          if (!(difference <= error)) error = difference, at = i;  // NaN is kept
        }
        if (!(most <= 1e-2 * size)) return Verdict::chaotic;  // zeros that rounding moves, too
        const double bound = kOverRounding * most + 1e-5 * size + 1e-30;
        if (error <= bound) {
          worst = std::max(worst, error / bound);
          continue;
        }
        if (!closer) {  // a few attempts can miss what one value in many feels: look closer before judging
          moved = sensitivity(program, row, exact, candidates, moved_by, 200);
          closer = true;
          --part;  // the same once more
          continue;
        }
        why = concat("head ", head, part == 0 ? ", candidate " : ", number of a state ", at - begin, ": ", got[at],
                     " came, ", exact[at], " is right; off by ", error, " where ", bound, " is allowed");
        return Verdict::wrong;
      }
    }
    return Verdict::equal;
  }

 private:
  static constexpr float kScale = 0.125f;
  struct Row {
    ir::Environment environment;
    ir::Tensor q;
    std::map<std::string, ir::Tensor> summaries;  // as the device stored them
    ir::States states;
    bool chaotic = false;
  };

  static std::int64_t bytes_of(const codegen::FieldLayout& field) { return field.dtype == ir::DType::bf16 ? 2 : 4; }

  // A hash of a computed number has no bound, and whether two numbers are equal hangs on the last bit of a computed
  // one.
  static bool hangs_on_last_bits(const ir::Program& program) {
    for (const ir::Node& node : program.nodes)
      for (const ir::ValueId input : node.inputs)
        if ((node.op->name == "random" || node.op->name == "equal") &&
            program.node(input).op->kind != ir::OpKind::source)
          return true;
    return false;
  }

  static double largest_difference(const std::vector<double>& a, const std::vector<double>& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
      const double difference = std::abs(a[i] - b[i]);
      most = std::max(most, std::isnan(difference) ? INFINITY : difference);
    }
    return most;
  }

  // Scores, and after them the states of the next step.
  static std::vector<double> made(const ir::Program& program, const Row& row,
                                  const std::vector<std::int64_t>& candidates) {
    std::vector<double> out =
        ir::interpret_scores(program, row.environment, row.q, row.summaries, candidates, row.states);
    if (row.states.empty()) return out;
    const ir::States next =
        ir::interpret_states(program, row.environment, row.q, row.summaries, candidates, row.states);
    for (const auto& [name, state] : row.states) {
      const std::vector<double>& of = next.at(name).data;
      out.insert(out.end(), of.begin(), of.end());
    }
    return out;
  }

  // The same of the device. States lie one after another: [2, layers, heads, elements, pages or 1].
  std::vector<float> read(const Flow& flow, const Came& came, int head, std::size_t count,
                          const std::vector<std::int64_t>& candidates) const {
    const auto scores = came.scores.begin() + head * came.capacity;
    std::vector<float> out(scores, scores + std::ssize(candidates));
    for (const std::size_t s : by_name(flow)) append_state(flow, s, head, true, came.next, candidates, out);
    VORTEX_CHECK(out.size() == count, out.size(), " numbers of ", count);
    return out;
  }
  static std::vector<std::size_t> by_name(const Flow& flow) {
    std::map<std::string, std::size_t> out;
    for (std::size_t s = 0; s < flow.printed.states.size(); ++s) out[flow.printed.states[s].name] = s;
    std::vector<std::size_t> order;
    for (const auto& [name, s] : out) order.push_back(s);
    return order;
  }
  // Floats of the states before that one.
  static std::int64_t place(const Flow& flow, std::size_t state) {
    std::int64_t out = 0;
    for (std::size_t s = 0; s < state; ++s)
      out += 2 * kLayers * kHeads * flow.printed.states[s].elements * (flow.printed.states[s].of_pages ? kPages : 1);
    return out;
  }
  template <class Out>
  static void append_state(const Flow& flow, std::size_t state, int head, bool next, const std::vector<float>& from,
                           const std::vector<std::int64_t>& candidates, Out& out) {
    const codegen::StateLayout& layout = flow.printed.states[state];
    const std::int64_t room = layout.of_pages ? kPages : 1, row = layout.elements * room;
    const std::int64_t begin =
        place(flow, state) + (kStep + (next ? 1 : 0)) % 2 * kLayers * kHeads * row + (kLayer * kHeads + head) * row;
    for (std::size_t i = 0; i < (layout.of_pages ? candidates.size() : 1); ++i)
      for (std::int64_t e = 0; e < layout.elements; ++e)
        out.push_back(static_cast<typename Out::value_type>(
            from[static_cast<std::size_t>(begin + e * room + (layout.of_pages ? candidates[i] : 0))]));
  }

  // Largest change of each number when every value feels rounding, and the inputs move by `step` of their size.
  static std::vector<double> sensitivity(const ir::Program& program, const Row& row, const std::vector<double>& exact,
                                         const std::vector<std::int64_t>& candidates, double step,
                                         std::uint32_t attempts) {
    std::mt19937 random(3);
    std::uniform_real_distribution<double> uniform(-1, 1);
    std::vector<double> most(exact.size());
    for (std::uint32_t attempt = 1; attempt <= attempts; ++attempt) {
      Row moved = row;
      moved.environment.rounding_seed = attempt;
      for (double& x : moved.q.data) x *= 1 + step * uniform(random);
      for (auto& [name, tensor] : moved.summaries)
        for (double& x : tensor.data) x = x * (1 + step * uniform(random)) + step * 1e-3 * uniform(random);
      for (auto& [name, tensor] : moved.states)
        for (double& x : tensor.data) x *= 1 + step * uniform(random);
      const std::vector<double> other = made(program, moved, candidates);
      for (std::size_t i = 0; i < other.size(); ++i) {
        if (exact[i] == other[i]) continue;
        const double difference = std::abs(exact[i] - other[i]);
        most[i] = std::max(most[i], std::isnan(difference) ? INFINITY : difference);
      }
    }
    return most;
  }

  // The inputs of a row, and whether its summaries are right.
  Row row_of(const Flow& flow, const Came& came, int head, const std::vector<std::int64_t>& candidates,
             std::string& why) const {
    const ir::Program& program = flow.plan.program;
    Row row;
    row.environment = {.geometry = geometry_,
                       .tokens = tokens_,
                       .step = kStep,
                       .layer = kLayer,
                       .layers = kLayers,
                       .scale = static_cast<double>(kScale),
                       .kv_head = head};
    row.q.shape = {geometry_.group, geometry_.head_dim};
    const std::int64_t q_row = geometry_.group * geometry_.head_dim;
    for (std::int64_t i = 0; i < q_row; ++i)
      row.q.data.push_back(static_cast<double>(q_[static_cast<std::size_t>(head * q_row + i)] * kScale));
    // Every candidate, and every group of pages that is scored.
    std::map<std::int64_t, std::vector<std::int64_t>> instances{{1, candidates}};
    for (const ir::Summary& summary : program.summaries) {
      const std::int64_t pages = program.node(summary.value).type.domain.pages;
      if (pages == 1 || instances.contains(pages)) continue;
      const ir::GroupRange groups = ir::groups_of(pages, candidates.front(), std::ssize(candidates), kPages - 1);
      for (std::int64_t i = 0; i < groups.count; ++i) instances[pages].push_back(groups.first + i);
    }
    for (const auto& [pages, indices] : instances)
      for (const std::int64_t index : indices) read_summaries(flow, came, head, pages, index, row, why);
    for (const ir::Summary& summary : program.summaries) {
      ir::Tensor& tensor = row.summaries[summary.name];
      tensor.shape = {std::ssize(instances[program.node(summary.value).type.domain.pages])};
      std::int64_t elements = tensor.shape[0];
      for (const ir::Axis& axis : program.node(summary.value).type.axes) {
        tensor.shape.push_back(*ir::bind(axis.extent, geometry_));
        elements *= tensor.shape.back();
      }
      tensor.data.resize(static_cast<std::size_t>(elements));  // the compiled flow may not use it
    }
    for (std::size_t s = 0; s < flow.printed.states.size(); ++s) {
      const codegen::StateLayout& state = flow.printed.states[s];
      ir::Tensor& tensor = row.states[state.name];
      if (state.of_pages) tensor.shape.push_back(std::ssize(candidates));
      for (const ir::Axis& axis : ir::reader_of(program, state.name)->type.axes)
        tensor.shape.push_back(*ir::bind(axis.extent, geometry_));
      append_state(flow, s, head, false, came.carried, candidates, tensor.data);
    }
    return row;
  }

  // The summaries of a page, or of a group of so many, as they are stored; and whether they are right.
  void read_summaries(const Flow& flow, const Came& came, int head, std::int64_t pages, std::int64_t index, Row& row,
                      std::string& why) const {
    const ir::Program& program = flow.plan.program;
    const auto slice = [&](int which) {
      ir::Tensor out{{pages * geometry_.page_size, geometry_.head_dim}, {}};
      for (std::int64_t page = index * pages; page < (index + 1) * pages; ++page) {
        const std::int64_t physical = table_[static_cast<std::size_t>(page)];
        const BFloat16* const from = kv_.data() + ((physical * kHeads + head) * 2 + which) * plane_;
        for (std::int64_t i = 0; i < plane_; ++i) out.data.push_back(static_cast<double>(to_float(from[i])));
      }
      return out;
    };
    const ir::Tensor k = slice(0), v = slice(1);
    const std::map<std::string, ir::Tensor> exact = ir::interpret_summaries(program, row.environment, k, v, pages);
    std::map<std::string, double> moved;
    for (std::uint32_t attempt = 1; attempt <= 2; ++attempt) {
      ir::Environment rounded = row.environment;
      rounded.rounding_seed = attempt;
      for (const auto& [name, tensor] : ir::interpret_summaries(program, rounded, k, v, pages))
        moved[name] = std::max(moved[name], largest_difference(exact.at(name).data, tensor.data));
    }
    const std::int64_t physical = table_[static_cast<std::size_t>((index + 1) * pages - 1)];
    for (std::size_t f = 0; f < flow.printed.fields.size(); ++f) {
      const codegen::FieldLayout& field = flow.printed.fields[f];
      if (field.pages != pages) continue;
      const std::vector<double>& wanted = exact.at(field.name).data;
      double size = 0;
      for (const double x : wanted) size = std::max(size, std::isnan(x) ? INFINITY : std::abs(x));
      const bool judged = std::isfinite(size) && moved[field.name] <= 1e-2 * size;
      row.chaotic = row.chaotic || (!judged && size > 0);
      for (std::int64_t e = 0; e < field.elements; ++e) {
        const std::int64_t at = (physical * kHeads + head) * field.elements + e;
        const auto* const from = came.summaries[f].data() + at * bytes_of(field);
        const float value = field.dtype == ir::DType::bf16 ? to_float(*reinterpret_cast<const BFloat16*>(from))
                                                           : *reinterpret_cast<const float*>(from);
        row.summaries[field.name].data.push_back(static_cast<double>(value));
        const double right = wanted[static_cast<std::size_t>(e)];
        const double rounding = field.dtype == ir::DType::bf16 ? 0x1p-8 * std::abs(right) : 0.0;
        const double bound = kOverRounding * moved[field.name] + rounding + 1e-5 * size + 1e-30;
        if (!judged || std::abs(static_cast<double>(value) - right) <= bound || !why.empty()) continue;
        why = concat("head ", head, ", ", pages == 1 ? "page " : "group ", index, ": summary ", field.name, "[", e,
                     "] is ", value, ", and ", right, " is right; ", bound, " off is allowed");
      }
    }
  }

  std::shared_ptr<device::Device> device_;
  std::unique_ptr<device::Stream> stream_;
  attention::CudaChain chain_;
  ir::Geometry geometry_;
  std::int64_t plane_ = 0;
  int tokens_ = 0;
  std::vector<BFloat16> kv_;
  std::vector<float> q_;
  std::vector<int> table_;
  Array<BFloat16> device_kv_;
  Array<int> device_table_, device_tokens_, device_lengths_;
  Array<std::int64_t> device_steps_;
  Array<float> device_q_;
  Array<cuda::SequencePlan> plans_;
};

struct Asked {
  int programs;
  std::uint64_t seed;
};
// VORTEX_PROGRAMS and VORTEX_SEED; without a seed, another one each day.
Asked asked(int programs) {
  const char *count = std::getenv("VORTEX_PROGRAMS"), *seed = std::getenv("VORTEX_SEED");
  const auto day = std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now()).time_since_epoch().count();
  return {count == nullptr ? programs : std::atoi(count),
          1000000 * (seed == nullptr ? static_cast<std::uint64_t>(day) : std::strtoull(seed, nullptr, 10))};
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void print_refused(const std::map<std::string, int>& refused) {
  for (const auto& [reason, count] : refused) std::printf("      passed over %5d: %s\n", count, reason.c_str());
}

TEST(RandomPrograms, EqualTheInterpreterWithinTheirRounding) {
  std::string missing;
  const auto device = open_gpu(missing);
  if (device == nullptr) GTEST_SKIP() << missing;
  const Asked run = asked(200);
  const auto begin = std::chrono::steady_clock::now();
  std::map<std::string, int> refused;
  std::vector<Flow> flows = programs_from(run.seed, run.programs, refused);
  const double made = seconds_since(begin);
  ThreadPool threads(0);
  load(*device, all_of(flows), kOfAUnit, threads);
  const double compiled = seconds_since(begin);
  std::printf("      %zu programs made in %.1f s, compiled by %.1f s\n", flows.size(), made, compiled);
  Judge small(device, ir::kSmall), tiles(device, kTiles);
  const auto of = [&](const Flow& flow) -> Judge& {
    return flow.geometry.page_size == kTiles.page_size ? tiles : small;
  };
  std::vector<Judge::Came> came;
  for (const Flow& flow : flows) came.push_back(flow.kernels == nullptr ? Judge::Came{} : of(flow).run(flow));
  const double ran = seconds_since(begin);
  std::printf("      run by %.1f s\n", ran);
  std::vector<Judge::Verdict> verdicts(flows.size()), doubled(flows.size());
  std::vector<std::string> why(flows.size());
  std::vector<double> worst(flows.size());
  threads.for_each(std::ssize(flows), [&](std::int64_t i, int) {
    const auto at = static_cast<std::size_t>(i);
    if (flows[at].kernels == nullptr) return;
    verdicts[at] = of(flows[at]).judge(flows[at], came[at], why[at], worst[at]);
    if (verdicts[at] != Judge::Verdict::equal) return;
    Judge::Came other = came[at];  // and the judge sees a score that is off by a third of the largest
    float largest = 0;
    for (const float score : other.scores)
      if (std::isfinite(score)) largest = std::max(largest, std::abs(score));
    other.scores[3] += 0.33f * largest + 1e-20f;
    std::string unread;
    double ignored = 0;
    doubled[at] = of(flows[at]).judge(flows[at], other, unread, ignored);
  });
  std::map<Judge::Verdict, int> counts;
  double most = 0;
  int told = 0;
  for (std::size_t i = 0; i < flows.size(); ++i) {
    if (flows[i].kernels == nullptr) continue;
    ++counts[verdicts[i]];
    most = std::max(most, verdicts[i] == Judge::Verdict::equal ? worst[i] : 0.0);
    if (verdicts[i] == Judge::Verdict::equal) {
      EXPECT_NE(doubled[i], Judge::Verdict::equal) << "a wrong score passes: seed " << flows[i].seed;
    }
    if (verdicts[i] != Judge::Verdict::wrong || ++told > 5) continue;
    ADD_FAILURE() << "seed " << flows[i].seed << ": " << why[i] << "\n"
                  << ir::print(flows[i].plan.program) << flows[i].printed.text;
  }
  std::printf(
      "MEASURED %zu random programs from seed %llu: %d equal the interpreter (worst %.2g of its bound), %d wrong, "
      "%d overflow float32, %d magnify rounding without bound; made in %.1f s, compiled by %.1f s on %d threads, run "
      "by "
      "%.1f s, judged by %.1f s: %.0f programs a minute\n",
      flows.size(), static_cast<unsigned long long>(run.seed), counts[Judge::Verdict::equal], most,
      counts[Judge::Verdict::wrong], counts[Judge::Verdict::overflowed], counts[Judge::Verdict::chaotic], made,
      compiled, threads.threads(), ran, seconds_since(begin),
      60.0 * static_cast<double>(flows.size()) / seconds_since(begin));
  print_refused(refused);
  EXPECT_EQ(counts[Judge::Verdict::wrong], 0);
  EXPECT_GT(counts[Judge::Verdict::equal], run.programs / 3);
}

// Everything but the kernels themselves, without a GPU.
TEST(RandomPrograms, ArePrintedAndPlanned) {
  std::map<std::string, int> refused;
  std::vector<Flow> flows = programs_from(0, 100, refused);
  const auto device = device::open(device::Kind::null);
  ThreadPool threads(1);
  load(*device, all_of(flows), kOfAUnit, threads);
  Judge small(device, ir::kSmall), tiles(device, kTiles);
  for (const Flow& flow : flows) (flow.geometry.page_size == kTiles.page_size ? tiles : small).run(flow);
  print_refused(refused);
}

TEST(RandomProgramsSlow, ASliceCompiles) {
  try {
    device::nvrtc_version();
  } catch (const MachineError& error) {
    GTEST_SKIP() << error.what();
  }
  std::map<std::string, int> refused;
  std::vector<Flow> flows = programs_from(0, 10, refused);
  const auto begin = std::chrono::steady_clock::now();
  const device::Compiled compiled = device::compile_text(source_of(all_of(flows)), "sm_90a");
  std::printf("MEASURED %zu random programs in one text compile in %.1f s\n", flows.size(), seconds_since(begin));
  EXPECT_EQ(compiled.log.find("warning"), std::string::npos) << compiled.log;
}

}  // namespace
}  // namespace vortex::gpu_tests
