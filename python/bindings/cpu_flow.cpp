// A flow compiled for the CPU, run on numpy arrays: for tests, screens and curious people. The engine does not come by
// here.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <vortex/error.h>

#include <numeric>

#include "base/text.h"
#include "bindings/bindings.h"
#include "codegen/cpu/flow.h"

namespace nb = nanobind;

namespace vortex::python {

namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

std::string shape_text(const Floats& array) {
  std::vector<std::string> sizes;
  for (std::size_t i = 0; i < array.ndim(); ++i) sizes.push_back(std::to_string(array.shape(i)));
  return concat("[", join(sizes, ", "), "]");
}

void require_shape(const char* where, const char* name, const Floats& array, const std::vector<std::int64_t>& shape,
                   const char* words) {
  bool fits = array.ndim() == shape.size();
  for (std::size_t i = 0; fits && i < shape.size(); ++i) fits = static_cast<std::int64_t>(array.shape(i)) == shape[i];
  if (!fits) throw UserError(where, concat(name, " of shape ", words), shape_text(array), "give it that shape");
}

nb::ndarray<nb::numpy, float> array_of(std::vector<float> values, const std::vector<std::size_t>& shape) {
  auto* data = new std::vector<float>(std::move(values));
  nb::capsule owner(data, [](void* pointer) noexcept { delete static_cast<std::vector<float>*>(pointer); });
  return nb::ndarray<nb::numpy, float>(data->data(), shape.size(), shape.data(), owner);
}

using FlowPointer = std::shared_ptr<codegen::CpuFlow>;

// Elements of each axis of a summary.
std::vector<std::int64_t> shape_of(const compiler::Plan& plan, const std::string& name) {
  std::vector<std::int64_t> shape;
  for (const ir::Summary& summary : plan.program.summaries)
    if (summary.name == name)
      for (const ir::Axis& axis : plan.program.node(summary.value).type.axes)
        shape.push_back(*ir::bind(axis.extent, plan.geometry));
  return shape;
}

nb::dict summarize(const codegen::CpuFlow& flow, const Floats& k, const Floats& v) {
  const ir::Geometry& geometry = flow.plan().geometry;
  const std::int64_t pages = k.ndim() == 3 ? static_cast<std::int64_t>(k.shape(0)) : 0;
  require_shape("summarize", "k", k, {pages, geometry.page_size, geometry.head_dim}, "[pages, page_size, head_dim]");
  const std::int64_t value_dim = geometry.value_channels();
  require_shape("summarize", "v", v, {pages, geometry.page_size, value_dim}, "[pages of k, page_size, value_dim]");
  const std::int64_t key_floats = geometry.page_size * geometry.head_dim, value_floats = geometry.page_size * value_dim;
  std::vector<BFloat16> keys(static_cast<std::size_t>(key_floats)), values(static_cast<std::size_t>(value_floats));
  std::vector<const BFloat16*> key_rows, value_rows;
  for (std::int64_t token = 0; token < geometry.page_size; ++token) {
    key_rows.push_back(keys.data() + token * geometry.head_dim);
    value_rows.push_back(values.data() + token * value_dim);
  }
  std::vector<std::vector<float>> stored;
  std::vector<std::vector<BFloat16>> narrow;
  for (const codegen::FieldLayout& field : flow.fields()) {
    stored.emplace_back(static_cast<std::size_t>(pages * field.elements));
    narrow.emplace_back(static_cast<std::size_t>(field.elements));
  }
  std::vector<float> scratch(static_cast<std::size_t>(flow.scratch_floats()));
  for (std::int64_t page = 0; page < pages; ++page) {
    for (std::int64_t i = 0; i < key_floats; ++i)
      keys[static_cast<std::size_t>(i)] = to_bfloat16(k.data()[page * key_floats + i]);
    for (std::int64_t i = 0; i < value_floats; ++i)
      values[static_cast<std::size_t>(i)] = to_bfloat16(v.data()[page * value_floats + i]);
    std::vector<void*> outputs;
    for (std::size_t f = 0; f < stored.size(); ++f) {
      const codegen::FieldLayout& field = flow.fields()[f];
      outputs.push_back(field.dtype == ir::DType::bf16 ? static_cast<void*>(narrow[f].data())
                                                       : stored[f].data() + page * field.elements);
    }
    flow.summarize(key_rows.data(), value_rows.data(), outputs.data(), scratch.data());
    for (std::size_t f = 0; f < stored.size(); ++f) {
      const codegen::FieldLayout& field = flow.fields()[f];
      if (field.dtype != ir::DType::bf16) continue;
      for (std::int64_t e = 0; e < field.elements; ++e)
        stored[f][static_cast<std::size_t>(page * field.elements + e)] =
            to_float(narrow[f][static_cast<std::size_t>(e)]);
    }
  }
  nb::dict out;
  for (std::size_t f = 0; f < stored.size(); ++f) {
    std::vector<std::size_t> shape{static_cast<std::size_t>(pages)};
    for (std::int64_t size : shape_of(flow.plan(), flow.fields()[f].name))
      shape.push_back(static_cast<std::size_t>(size));
    out[flow.fields()[f].name.c_str()] = array_of(std::move(stored[f]), shape);
  }
  return out;
}

// States of a row as the flow reads and writes them, from and to arrays [candidates, axes...] or [axes...].
class RowStates {
 public:
  RowStates(const codegen::CpuFlow& flow, const std::map<std::string, Floats>& given, std::int64_t candidates)
      : flow_(flow), candidates_(candidates) {
    for (const codegen::StateLayout& state : flow.states()) {
      const std::int64_t runs = state.of_pages ? candidates : 1;
      std::vector<float> from(static_cast<std::size_t>(state.elements * runs), state.initial);
      if (const auto found = given.find(state.name); found != given.end()) {
        require_shape("scores", state.name.c_str(), found->second, shape_of(state), "[candidates, axes of the state]");
        for (std::int64_t p = 0; p < runs; ++p)
          for (std::int64_t e = 0; e < state.elements; ++e)
            from[static_cast<std::size_t>(e * runs + p)] = found->second.data()[p * state.elements + e];
      }
      to_.emplace_back(from.size());
      from_.push_back(std::move(from));
      views_.push_back({from_.back().data(), to_.back().data(), runs});
    }
  }
  const codegen::StateView* views() const { return views_.data(); }
  nb::dict next() const {
    nb::dict out;
    for (std::size_t s = 0; s < to_.size(); ++s) {
      const codegen::StateLayout& state = flow_.states()[s];
      const std::int64_t runs = state.of_pages ? candidates_ : 1;
      std::vector<float> values(to_[s].size());
      for (std::int64_t p = 0; p < runs; ++p)
        for (std::int64_t e = 0; e < state.elements; ++e)
          values[static_cast<std::size_t>(p * state.elements + e)] = to_[s][static_cast<std::size_t>(e * runs + p)];
      const std::vector<std::int64_t> shape = shape_of(state);
      out[state.name.c_str()] = array_of(std::move(values), std::vector<std::size_t>(shape.begin(), shape.end()));
    }
    return out;
  }

 private:
  std::vector<std::int64_t> shape_of(const codegen::StateLayout& state) const {
    const compiler::Plan& plan = flow_.plan();
    std::vector<std::int64_t> shape;
    if (state.of_pages) shape.push_back(candidates_);
    for (const ir::Axis& axis : ir::reader_of(plan.program, state.name)->type.axes)
      shape.push_back(*ir::bind(axis.extent, plan.geometry));
    return shape;
  }

  const codegen::CpuFlow& flow_;
  std::int64_t candidates_;
  std::vector<std::vector<float>> from_, to_;
  std::vector<codegen::StateView> views_;
};

nb::tuple step(const codegen::CpuFlow& flow, const Floats& q, const std::map<std::string, Floats>& summaries,
               const std::map<std::string, Floats>& states, std::int64_t candidates, std::int64_t first_page,
               std::int64_t tokens, std::int64_t step, std::int64_t layer, std::int64_t layers, double scale) {
  const ir::Geometry& geometry = flow.plan().geometry;
  if (!flow.groups().empty())
    throw UserError("scores", "a flow that remembers pages", "groups of pages, whose summaries are of several pages",
                    "interpret it, or run it in the engine");
  require_shape("scores", "q", q, {geometry.group, geometry.head_dim}, "[group, head_dim]");
  if (flow.page_stages() == 0)
    throw UserError("scores", "a flow that scores", "one without a score", "only its pinned pages are attended");
  std::vector<std::vector<BFloat16>> narrow(flow.fields().size());
  std::vector<codegen::FieldView> views;
  for (std::size_t f = 0; f < flow.fields().size(); ++f) {
    const codegen::FieldLayout& field = flow.fields()[f];
    auto found = summaries.find(field.name);
    if (found == summaries.end()) {
      std::vector<std::string> names;
      for (const codegen::FieldLayout& other : flow.fields()) names.push_back(other.name);
      throw UserError("scores", concat("summaries ", join(names, ", ")), concat("none called ", field.name),
                      "give what summarize() returns");
    }
    const Floats& values = found->second;
    if (candidates < 0) candidates = values.ndim() > 0 ? static_cast<std::int64_t>(values.shape(0)) : 0;
    std::vector<std::int64_t> shape = shape_of(flow.plan(), field.name);
    shape.insert(shape.begin(), candidates);
    require_shape("scores", field.name.c_str(), values, shape, "[candidates, axes of the summary]");
    if (field.dtype == ir::DType::bf16) {
      for (std::size_t i = 0; i < values.size(); ++i) narrow[f].push_back(to_bfloat16(values.data()[i]));
      views.push_back({narrow[f].data(), field.elements});
    } else {
      views.push_back({const_cast<float*>(values.data()), field.elements});
    }
  }
  if (candidates < 0)
    throw UserError("scores", "candidates, for a flow without summaries", "neither", "pass candidates=");
  std::vector<std::int32_t> pages(static_cast<std::size_t>(candidates));
  std::iota(pages.begin(), pages.end(), 0);
  std::vector<float> out(pages.size()), scratch(static_cast<std::size_t>(flow.scratch_floats())),
      workspace(static_cast<std::size_t>(flow.workspace_floats(candidates)));
  codegen::RowArguments row;
  row.q = q.data();
  row.fields = views.data();
  row.summary_page = pages.data();
  row.candidates = candidates;
  row.first_page = first_page;
  row.tokens = tokens;
  row.pages = (tokens + geometry.page_size - 1) / geometry.page_size;
  row.step = step;
  row.layer = layer;
  row.layers = layers;
  row.scale = static_cast<float>(scale);
  row.left =
      flow.rows()(
              flow.plan().program.config,
              {.geometry = geometry, .tokens = tokens, .step = step, .layer = layer, .layers = layers, .scale = scale})
          .chosen;
  const RowStates carried(flow, states, candidates);
  row.states = carried.views();
  row.scores = out.data();
  row.workspace = workspace.data();
  flow.run_row(row, scratch.data());
  for (int stage = 0; stage < flow.page_stages(); ++stage) {
    if (stage > 0) flow.run_finish(stage - 1, row, scratch.data());
    flow.run_page(stage, std::span(&row, 1), 0, candidates, scratch.data());
  }
  return nb::make_tuple(array_of(std::move(out), {pages.size()}), carried.next());
}

nb::object scores(const codegen::CpuFlow& flow, const Floats& q, const std::map<std::string, Floats>& summaries,
                  std::int64_t candidates, std::int64_t first_page, std::int64_t tokens, std::int64_t at,
                  std::int64_t layer, std::int64_t layers, double scale) {
  return step(flow, q, summaries, {}, candidates, first_page, tokens, at, layer, layers, scale)[0];
}

}  // namespace

void bind_cpu_flow(nb::module_& m) {
  nb::class_<codegen::CpuFlow>(m, "CpuFlow", "A flow compiled for the CPU and bound to one model geometry.")
      .def_prop_ro("plan", [](const codegen::CpuFlow& flow) { return flow.plan(); })
      .def_prop_ro(
          "fields",
          [](const codegen::CpuFlow& flow) {
            std::map<std::string, std::int64_t> out;
            for (const codegen::FieldLayout& field : flow.fields()) out[field.name] = field.elements;
            return out;
          },
          "Elements of each summary.")
      .def("text", &codegen::CpuFlow::text, "The tile program, one instruction a line.")
      .def("summarize", &summarize, nb::arg("k"), nb::arg("v"),
           "Summaries as stored, by name. k: float32 [pages, page_size, head_dim], v: [pages, page_size, value_dim], "
           "rounded "
           "to bf16 first.")
      .def("scores", &scores, nb::arg("q"), nb::arg("summaries"), nb::kw_only(), nb::arg("candidates") = -1,
           nb::arg("first_page") = 0, nb::arg("tokens") = 0, nb::arg("step") = 0, nb::arg("layer") = 0,
           nb::arg("layers") = 1, nb::arg("scale") = 1.0,
           "One float32 score a candidate. q: float32 [group, head_dim], already scaled; candidates are consecutive "
           "pages.")
      .def("step", &step, nb::arg("q"), nb::arg("summaries"), nb::arg("states") = std::map<std::string, Floats>(),
           nb::kw_only(), nb::arg("candidates") = -1, nb::arg("first_page") = 0, nb::arg("tokens") = 0,
           nb::arg("step") = 0, nb::arg("layer") = 0, nb::arg("layers") = 1, nb::arg("scale") = 1.0,
           "Scores, and the states of the next step by name. states: float32 [candidates, axes...] of pages, [axes...] "
           "of the sequence; one that is missing is as it is before the first step.");
  m.def(
      "cpu_flow",
      [](const ir::Program& program, std::int64_t head_dim, std::int64_t group, std::int64_t value_dim,
         std::vector<std::string> without) {
        compiler::Plan plan = compiler::compile(
            program,
            {.page_size = program.config.page_size, .head_dim = head_dim, .group = group, .value_dim = value_dim},
            {.disabled_passes = std::move(without)});
        return std::const_pointer_cast<codegen::CpuFlow>(codegen::CpuFlow::build(std::move(plan)));
      },
      nb::arg("program"), nb::arg("head_dim"), nb::arg("group"), nb::kw_only(), nb::arg("value_dim") = 0,
      nb::arg("without") = std::vector<std::string>(),
      "Compiles a flow for the CPU; `without` names passes to leave out.");
}

}  // namespace vortex::python
