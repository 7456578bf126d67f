// Runs a flow on the CPU backend and in the interpreter on the same random pages: shuffled physical pages with poisoned
// ones between, several KV heads in the arena, guards around every output.
#pragma once

#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "base/check.h"
#include "codegen/cpu/flow.h"
#include "ir/interpret.h"

namespace vortex::codegen {

class Harness {
 public:
  static constexpr std::int64_t kHeads = 2, kGuard = 64;

  Harness(std::shared_ptr<const CpuFlow> flow, std::int64_t candidates, unsigned seed) : flow_(std::move(flow)) {
    const ir::Geometry& geometry = flow_->plan().geometry;
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    const std::int64_t full = first_page_ + candidates + 2;  // pages; what follows the candidates is recent
    physical_ = 2 * full + 3;
    environment.geometry = geometry;
    environment.tokens = (full + 1) * geometry.page_size - 1;
    environment.step = 17;
    environment.layer = 3;
    environment.layers = 30;
    environment.kv_head = 1;
    environment.scale = 0.125;
    q.shape = {geometry.group, geometry.head_dim};
    for (std::int64_t i = 0; i < geometry.group * geometry.head_dim; ++i)
      q.data.push_back(static_cast<double>(normal(random) * 0.5f));
    for (std::int64_t p = first_page_; p < full; ++p) summary_page_.push_back(static_cast<std::int32_t>(2 * p + 1));
    for (std::int64_t p = 0; p < candidates; ++p) page_indices.push_back(first_page_ + p);
    std::shuffle(summary_page_.begin(), summary_page_.end(), random);
    for (const FieldLayout& field : flow_->fields()) {
      const std::int64_t bytes = field.dtype == ir::DType::bf16 ? 2 : 4;
      arenas_.emplace_back(static_cast<std::size_t>(physical_ * kHeads * field.elements * bytes), 0xff);  // NaN
      ir::Tensor& tensor = summaries[field.name];
      const std::int64_t instances = field.pages > 1 ? groups(field.pages).count : candidates;
      tensor.shape = {instances, field.elements};
      tensor.data.resize(static_cast<std::size_t>(instances * field.elements));
    }
    for (std::int64_t p = 0; p < full; ++p) write_page(random);
    for (std::int64_t p = 0; p < candidates; ++p) summarize(1, first_page_ + p, p);
    for (std::int64_t pages : flow_->groups())
      for (std::int64_t i = 0; i < groups(pages).count; ++i) summarize(pages, groups(pages).first + i, i);
    for (const StateLayout& state : flow_->states()) {
      ir::Tensor& tensor = states[state.name];
      tensor.shape = state_shape(state);
      for (std::int64_t i = 0; i < state.elements * (state.of_pages ? candidates : 1); ++i)
        tensor.data.push_back(static_cast<double>(normal(random)));
    }
  }

  // What the interpreter makes of the page's keys, next to what the arena holds.
  struct SummaryPair {
    std::string name;
    double exact, stored;
  };
  std::vector<SummaryPair> pairs;

  // Scores by the backend, chunks of `chunk` candidates; stages run as the interface says.
  std::vector<float> scores(std::int64_t chunk = 1 << 20) const {
    const std::int64_t candidates = static_cast<std::int64_t>(page_indices.size());
    // A twin of the row, with memory of its own, goes through the pages with it.
    std::vector<float> scratch = poisoned(2 * flow_->scratch_floats()),
                       workspace = poisoned(flow_->workspace_floats(candidates)), twin_workspace = workspace;
    std::vector<float> out = poisoned(candidates), twin_out = out, query(q.data.begin(), q.data.end());
    std::vector<FieldView> views;
    for (std::size_t f = 0; f < arenas_.size(); ++f) views.push_back(view(f));
    RowArguments row;
    row.q = query.data();
    row.fields = views.data();
    row.summary_page = summary_page_.data();
    row.candidates = candidates;
    row.first_page = first_page_;
    row.tokens = environment.tokens;
    row.pages = (row.tokens + environment.geometry.page_size - 1) / environment.geometry.page_size;
    row.step = environment.step;
    row.layer = environment.layer;
    row.layers = environment.layers;
    row.kv_head = environment.kv_head;
    row.left = flow_->rows()(flow_->plan().program.config, environment).chosen;
    row.scale = static_cast<float>(environment.scale);
    std::vector<float> rest = poisoned(flow_->rest_floats()), twin_rest = rest;
    row.rest = rest.data() + kGuard;
    row.scores = out.data() + kGuard;
    row.workspace = workspace.data() + kGuard;
    // States lie element by element; what a step leaves unwritten stays poisoned.
    std::vector<std::vector<float>> before, after;
    std::vector<StateView> state_views, twin_views;
    for (const StateLayout& state : flow_->states()) {
      const std::int64_t runs = state.of_pages ? candidates : 1;
      std::vector<float> now(static_cast<std::size_t>(state.elements * runs));
      for (std::int64_t p = 0; p < runs; ++p)
        for (std::int64_t e = 0; e < state.elements; ++e)
          now[static_cast<std::size_t>(e * runs + p)] =
              static_cast<float>(states.at(state.name).data[static_cast<std::size_t>(p * state.elements + e)]);
      before.push_back(std::move(now));
      for (int i = 0; i < 2; ++i) after.push_back(poisoned(state.elements * runs));
    }
    for (std::size_t s = 0; s < before.size(); ++s) {
      const std::int64_t runs = flow_->states()[s].of_pages ? candidates : 1;
      state_views.push_back({before[s].data(), after[2 * s].data() + kGuard, runs});
      twin_views.push_back({before[s].data(), after[2 * s + 1].data() + kGuard, runs});
    }
    row.states = state_views.data();
    RowArguments twin = row;
    twin.states = twin_views.data();
    twin.scores = twin_out.data() + kGuard;
    twin.rest = twin_rest.data() + kGuard;
    twin.workspace = twin_workspace.data() + kGuard;
    const RowArguments rows[2] = {row, twin};
    for (const RowArguments& each : rows) flow_->run_row(each, scratch.data() + kGuard);
    for (int stage = 0; stage < flow_->page_stages(); ++stage) {
      for (std::int64_t begin = 0; begin < candidates; begin += chunk)
        flow_->run_page(stage, rows, begin, std::min(candidates, begin + chunk), scratch.data() + kGuard);
      for (const RowArguments& each : rows)
        if (stage + 1 < flow_->page_stages()) flow_->run_finish(stage, each, scratch.data() + kGuard);
    }
    check_guards(scratch, "scratch");
    check_guards(workspace, "workspace");
    check_guards(twin_workspace, "the twin's workspace");
    check_guards(out, "scores");
    check_guards(rest, "rest");
    last_states.clear();
    for (std::size_t s = 0; s < before.size(); ++s) {
      const StateLayout& state = flow_->states()[s];
      check_guards(after[2 * s], "state");
      check_guards(after[2 * s + 1], "the twin's state");
      const std::int64_t runs = state.of_pages ? candidates : 1;
      std::vector<float>& next = last_states[state.name];
      for (std::int64_t p = 0; p < runs; ++p)
        for (std::int64_t e = 0; e < state.elements; ++e)
          next.push_back(after[2 * s][static_cast<std::size_t>(kGuard + e * runs + p)]);
    }
    last_rest.assign(rest.begin() + kGuard, rest.end() - kGuard);
    VORTEX_CHECK(std::memcmp(out.data(), twin_out.data(), out.size() * sizeof(float)) == 0,
                 "a row and its twin differ");
    return {out.begin() + kGuard, out.end() - kGuard};
  }

  // Scores, or 1 for each candidate of the set.
  std::vector<double> reference(const ir::Program& program) const {
    const auto shaped = shaped_summaries(program);
    return flow_->chooses_set() ? ir::interpret_chosen(program, environment, q, shaped, page_indices, states)
                                : ir::interpret_scores(program, environment, q, shaped, page_indices, states);
  }
  ir::Rest reference_rest(const ir::Program& program) const {
    return ir::interpret_rest(program, environment, q, shaped_summaries(program), page_indices, states);
  }
  // States in the next step, by name, in the order of last_states.
  std::map<std::string, std::vector<double>> reference_states(const ir::Program& program) const {
    std::map<std::string, std::vector<double>> out;
    for (auto& [name, tensor] :
         ir::interpret_states(program, environment, q, shaped_summaries(program), page_indices, states))
      out[name] = tensor.data;
    return out;
  }
  mutable std::map<std::string, std::vector<float>> last_states;  // after the scores computed last
  mutable std::vector<float> last_rest;  // of the row whose scores were computed last: logits, values

  std::map<std::string, ir::Tensor> shaped_summaries(const ir::Program& program) const {
    std::map<std::string, ir::Tensor> shaped;
    for (const ir::Summary& summary : program.summaries) {
      auto found = summaries.find(summary.name);
      if (found == summaries.end()) {  // the compiled flow has no use for it
        std::int64_t elements = 1;
        for (const ir::Axis& axis : program.node(summary.value).type.axes)
          elements *= *ir::bind(axis.extent, environment.geometry);
        const std::int64_t pages = program.node(summary.value).type.domain.pages;
        const std::int64_t instances = pages > 1 ? groups(pages).count : static_cast<std::int64_t>(page_indices.size());
        shaped[summary.name].data.assign(static_cast<std::size_t>(instances * elements), 0.0);
      } else {
        shaped[summary.name].data = found->second.data;
      }
      std::vector<std::int64_t>& shape = shaped[summary.name].shape;
      const std::int64_t pages = program.node(summary.value).type.domain.pages;
      shape = {pages > 1 ? groups(pages).count : static_cast<std::int64_t>(page_indices.size())};
      for (const ir::Axis& axis : program.node(summary.value).type.axes)
        shape.push_back(*ir::bind(axis.extent, environment.geometry));
    }
    return shaped;
  }

  ir::Environment environment;
  ir::Tensor q;
  std::map<std::string, ir::Tensor> summaries;  // as stored, [candidates, elements]
  std::vector<std::int64_t> page_indices;
  ir::States states;  // as they are

 private:
  std::vector<std::int64_t> state_shape(const StateLayout& state) const {
    std::vector<std::int64_t> shape;
    if (state.of_pages) shape.push_back(static_cast<std::int64_t>(page_indices.size()));
    for (const ir::Axis& axis : ir::reader_of(flow_->plan().program, state.name)->type.axes)
      shape.push_back(*ir::bind(axis.extent, environment.geometry));
    return shape;
  }
  static std::vector<float> poisoned(std::int64_t floats) {
    std::vector<float> out(static_cast<std::size_t>(floats + 2 * kGuard), std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t i = 0; i < kGuard; ++i)
      out[static_cast<std::size_t>(i)] = out[out.size() - 1 - static_cast<std::size_t>(i)] = 777.0f;
    return out;
  }
  static void check_guards(const std::vector<float>& buffer, const char* what) {
    for (std::size_t i = 0; i < kGuard; ++i)
      VORTEX_CHECK(buffer[i] == 777.0f && buffer[buffer.size() - 1 - i] == 777.0f, "guard of ", what, " overwritten");
  }

  FieldView view(std::size_t field) const {
    const FieldLayout& layout = flow_->fields()[field];
    const std::int64_t bytes = layout.dtype == ir::DType::bf16 ? 2 : 4, head = 1;
    auto* base = const_cast<std::uint8_t*>(arenas_[field].data()) + head * layout.elements * bytes;
    return {base, kHeads * layout.elements};
  }

  ir::GroupRange groups(std::int64_t pages) const {
    return ir::groups_of(pages, first_page_, static_cast<std::int64_t>(page_indices.size()),
                         environment.tokens / environment.geometry.page_size);
  }

  // Keys and values of the next page of the sequence.
  void write_page(std::mt19937& random) {
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < environment.geometry.page_size * environment.geometry.head_dim; ++i) {
      stored_k_.push_back(to_bfloat16(normal(random)));
      stored_v_.push_back(to_bfloat16(normal(random)));
    }
  }

  // Page `index` of the sequence, or a group of so many pages; `instance` of those that are scored.
  void summarize(std::int64_t pages, std::int64_t index, std::int64_t instance) {
    const ir::Geometry& geometry = environment.geometry;
    const std::int64_t tokens = pages * geometry.page_size, first = index * tokens;
    ir::Tensor k{{tokens, geometry.head_dim}, {}}, v = k;
    std::vector<const BFloat16*> k_rows, v_rows;
    for (std::int64_t token = 0; token < tokens; ++token) {
      k_rows.push_back(stored_k_.data() + (first + token) * geometry.head_dim);
      v_rows.push_back(stored_v_.data() + (first + token) * geometry.head_dim);
      for (std::int64_t d = 0; d < geometry.head_dim; ++d) {
        k.data.push_back(static_cast<double>(to_float(k_rows.back()[d])));
        v.data.push_back(static_cast<double>(to_float(v_rows.back()[d])));
      }
    }
    const std::int64_t home = summary_page_[static_cast<std::size_t>((index + 1) * pages - 1 - first_page_)];
    std::vector<void*> outputs;
    for (std::size_t f = 0; f < arenas_.size(); ++f) {
      const FieldLayout& layout = flow_->fields()[f];
      const FieldView to = view(f);
      outputs.push_back(static_cast<std::uint8_t*>(to.base) +
                        home * to.page_stride * (layout.dtype == ir::DType::bf16 ? 2 : 4));
    }
    std::vector<float> scratch = poisoned(flow_->scratch_floats());
    flow_->summarize(k_rows.data(), v_rows.data(), outputs.data(), scratch.data() + kGuard, pages, environment.layer,
                     environment.kv_head);
    check_guards(scratch, "summarize's scratch");
    std::map<std::string, ir::Tensor> exact = ir::interpret_summaries(flow_->plan().program, environment, k, v, pages);
    for (std::size_t f = 0; f < arenas_.size(); ++f) {
      const FieldLayout& layout = flow_->fields()[f];
      if (layout.pages != pages) continue;
      for (std::int64_t e = 0; e < layout.elements; ++e) {
        const float value = layout.dtype == ir::DType::bf16 ? to_float(static_cast<const BFloat16*>(outputs[f])[e])
                                                            : static_cast<const float*>(outputs[f])[e];
        summaries[layout.name].data[static_cast<std::size_t>(instance * layout.elements + e)] =
            static_cast<double>(value);
        pairs.push_back(
            {layout.name, exact.at(layout.name).data[static_cast<std::size_t>(e)], static_cast<double>(value)});
      }
    }
  }

  std::shared_ptr<const CpuFlow> flow_;
  std::int64_t physical_ = 0, first_page_ = 5;
  std::vector<std::int32_t> summary_page_;         // of the full pages from first_page_ on
  std::vector<BFloat16> stored_k_, stored_v_;      // [pages, page_size, head_dim]
  std::vector<std::vector<std::uint8_t>> arenas_;  // [physical, kHeads, elements], 0xff where nothing is written
};

// sqrt(Σ (a − b)² / Σ b²) over the numbers; infinite when NaN or infinities stand in different places.
inline double normalised_error(const std::vector<float>& came, const std::vector<double>& expected) {
  double error = 0, size = 0;
  if (came.size() != expected.size()) return INFINITY;
  for (std::size_t i = 0; i < came.size(); ++i) {
    const double a = static_cast<double>(came[i]), b = expected[i];
    if (std::isnan(a) != std::isnan(b)) return INFINITY;
    if (std::isnan(b)) continue;
    if (std::isinf(a) || std::isinf(b)) {
      if (a != b) return INFINITY;
      continue;
    }
    error += (a - b) * (a - b);
    size += b * b;
  }
  return std::sqrt(error / (size + 1e-30));
}

}  // namespace vortex::codegen
