// Programs of the IR in Python: tracing, text and JSON, settings, hash, the interpreter, the op table.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>
#include <vortex/error.h>
#include <vortex/flow.h>

#include "base/text.h"
#include "bindings/bindings.h"
#include "ir/interpret.h"
#include "ir/op.h"
#include "ir/rows.h"

namespace nb = nanobind;

namespace vortex::python {

namespace {

using Floats = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using Array = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;

ir::Tensor tensor_of(const Array& array) {
  ir::Tensor out;
  for (std::size_t i = 0; i < array.ndim(); ++i) out.shape.push_back(static_cast<std::int64_t>(array.shape(i)));
  out.data.assign(array.data(), array.data() + array.size());
  return out;
}

nb::ndarray<nb::numpy, double> array_of(const ir::Tensor& tensor) {
  auto* data = new std::vector<double>(tensor.data);
  nb::capsule owner(data, [](void* pointer) noexcept { delete static_cast<std::vector<double>*>(pointer); });
  std::vector<std::size_t> shape(tensor.shape.begin(), tensor.shape.end());
  return nb::ndarray<nb::numpy, double>(data->data(), shape.size(), shape.data(), owner);
}

void set_all(ir::FlowConfig& config, const std::map<std::string, std::string>& settings) {
  for (const auto& [name, value] : settings) config.set(name, value);
}

ir::Environment environment_of(const ir::Program& program, std::int64_t head_dim, std::int64_t value_dim,
                               std::int64_t group, std::int64_t tokens, std::int64_t step, std::int64_t layer,
                               std::int64_t layers, double scale) {
  return {
      .geometry = {.page_size = program.config.page_size, .head_dim = head_dim, .group = group, .value_dim = value_dim},
      .tokens = tokens,
      .step = step,
      .layer = layer,
      .layers = layers,
      .scale = scale};
}

nb::dict interpret_summaries(const ir::Program& program, const Array& k, const Array& v, std::int64_t group) {
  ir::Tensor keys = tensor_of(k), values = tensor_of(v);
  std::int64_t dim = keys.shape.size() == 2 ? keys.shape[1] : 0;
  std::int64_t value_dim = values.shape.size() == 2 ? values.shape[1] : 0;
  nb::dict out;
  for (const auto& [name, tensor] : ir::interpret_summaries(
           program, environment_of(program, dim, value_dim, 1, 0, 0, 0, 1, 1.0), keys, values, group))
    out[name.c_str()] = array_of(tensor);
  return out;
}

nb::ndarray<nb::numpy, double> interpret_scores(const ir::Program& program, const Array& q,
                                                const std::map<std::string, Array>& summaries,
                                                const std::vector<std::int64_t>& page_indices, std::int64_t tokens,
                                                std::int64_t step, std::int64_t layer, std::int64_t layers,
                                                double scale, std::int64_t value_dim,
                                                const std::map<std::string, Array>& states) {
  ir::Tensor queries = tensor_of(q);
  bool matrix = queries.shape.size() == 2;
  std::map<std::string, ir::Tensor> tensors;
  for (const auto& [name, array] : summaries) tensors[name] = tensor_of(array);
  ir::States before;
  for (const auto& [name, array] : states) before[name] = tensor_of(array);
  ir::Environment environment = environment_of(program, matrix ? queries.shape[1] : 0, value_dim,
                                               matrix ? queries.shape[0] : 0, tokens, step, layer, layers, scale);
  std::vector<double> scores = program.selection >= 0
                                   ? ir::interpret_chosen(program, environment, queries, tensors, page_indices, before)
                                   : ir::interpret_scores(program, environment, queries, tensors, page_indices, before);
  return array_of({{static_cast<std::int64_t>(scores.size())}, scores});
}

nb::dict interpret_states(const ir::Program& program, const Array& q, const std::map<std::string, Array>& summaries,
                          const std::vector<std::int64_t>& page_indices, const std::map<std::string, Array>& states,
                          std::int64_t tokens, std::int64_t step, std::int64_t layer, std::int64_t layers, double scale,
                          std::int64_t value_dim) {
  ir::Tensor queries = tensor_of(q);
  const bool matrix = queries.shape.size() == 2;
  std::map<std::string, ir::Tensor> tensors;
  ir::States before;
  for (const auto& [name, array] : summaries) tensors[name] = tensor_of(array);
  for (const auto& [name, array] : states) before[name] = tensor_of(array);
  nb::dict out;
  for (const auto& [name, tensor] :
       ir::interpret_states(program,
                            environment_of(program, matrix ? queries.shape[1] : 0, value_dim,
                                           matrix ? queries.shape[0] : 0, tokens, step, layer, layers, scale),
                            queries, tensors, page_indices, before))
    out[name.c_str()] = array_of(tensor);
  return out;
}

nb::list op_table() {
  nb::list out;
  for (const ir::OpDef* op : ir::all_ops()) {
    nb::dict row;
    row["name"] = op->name;
    row["doc"] = op->doc;
    row["kind"] = ir::name_of(op->kind);
    row["arity"] = op->arity;
    row["phase"] = op->phase == ir::Phase::any ? "any" : op->phase == ir::Phase::score ? "score" : "summarize";
    row["commutative"] = op->commutative;
    row["order_preserving"] = op->order_preserving;
    row["nonnegative"] = op->nonnegative;
    nb::list attributes;
    for (const ir::AttributeDef& def : op->attributes) {
      nb::dict attribute;
      attribute["name"] = def.name;
      attribute["doc"] = def.doc;
      attribute["required"] = def.required;
      attribute["kind"] = def.kind == ir::AttributeKind::integer  ? "integer"
                          : def.kind == ir::AttributeKind::number ? "number"
                                                                  : "text";
      attributes.append(attribute);
    }
    row["attributes"] = attributes;
    out.append(row);
  }
  return out;
}

void bind_config(nb::module_& m) {
  nb::class_<ir::FlowConfig>(m, "FlowConfig", "The few settings of a flow.")
      .def(nb::init<>())
      .def_ro("page_size", &ir::FlowConfig::page_size, "tokens a page of the flow")
      .def_ro("budget", &ir::FlowConfig::budget, "attended pages a row in all; 0: given by budget_ratio")
      .def_ro("budget_ratio", &ir::FlowConfig::budget_ratio, "share of a row's pages; the larger of the two counts")
      .def_ro("sinks", &ir::FlowConfig::sinks, "first pages, always attended")
      .def_ro("recent", &ir::FlowConfig::recent, "last pages, always attended; the open page is one of them")
      .def_ro("full_attention_layers", &ir::FlowConfig::full_attention_layers, "layers this flow leaves unsparse")
      .def_prop_ro("summary_dtype", [](const ir::FlowConfig& config) { return ir::name_of(config.summary_dtype); })
      .def_ro("reuse", &ir::FlowConfig::reuse, "layer → the earlier layer whose set it takes")
      .def_ro("reuse_run", &ir::FlowConfig::reuse_run, "so many layers in a row attend one set, that of the first")
      .def("source_of", &ir::FlowConfig::source_of, nb::arg("layer"), "The layer whose set a layer attends.")
      .def_ro("refresh_every", &ir::FlowConfig::refresh_every, "decode steps from one choice of pages to the next")
      .def_static("names", &ir::FlowConfig::names)
      .def("budget_of", &ir::budget_of, nb::arg("pages"), "Pages a row attends when it holds `pages`.")
      .def("pinned_of", &ir::pinned_of, nb::arg("pages"), "Pages a row of `pages` always attends.")
      .def("__eq__", [](const ir::FlowConfig& a, const ir::FlowConfig& b) { return a == b; })
      .def("__str__", &ir::FlowConfig::print)
      .def("__repr__", [](const ir::FlowConfig& config) { return concat("FlowConfig(", config.print(), ")"); });
}

void bind_program(nb::module_& m) {
  nb::class_<ir::Program>(m, "Program", "A flow as data: values, summaries, the score, and settings.")
      .def_ro("name", &ir::Program::name)
      .def_ro("doc", &ir::Program::doc)
      .def_ro("config", &ir::Program::config)
      .def_prop_ro(
          "scores", [](const ir::Program& program) { return program.chooses(); },
          "False: only pinned pages are attended.")
      .def_prop_ro(
          "rests", [](const ir::Program& program) { return program.rest_logit >= 0; },
          "Whether pages that are not chosen are estimated.")
      .def(
          "rows",
          [](const ir::Program& program, std::int64_t tokens, std::int64_t step, std::int64_t layer,
             std::int64_t layers, double scale) {
            const std::int64_t source = program.config.source_of(layer);
            const ir::Program& at = ir::flow_at(program, source);
            const ir::RowPages row =
                ir::RowRule(at)(at.config, environment_of(at, 0, 0, 1, tokens, step, source, layers, scale));
            nb::dict out;
            out["pages"] = row.pages;
            out["attended"] = row.attended;
            out["candidates"] = row.candidates;
            out["chosen"] = row.chosen;
            return out;
          },
          nb::arg("tokens"), nb::arg("step") = 0, nb::arg("layer") = 0, nb::arg("layers") = 1, nb::arg("scale") = 1.0,
          "What the rows of a sequence of `tokens` tokens hold, attend, score and choose, in pages of the flow.")
      .def_prop_ro(
          "values", [](const ir::Program& program) { return program.nodes.size(); }, "How many values it has.")
      .def_prop_ro(
          "summaries",
          [](const ir::Program& program) {
            std::map<std::string, std::string> out;
            for (const ir::Summary& summary : program.summaries)
              out[summary.name] = ir::print(program.node(summary.value).type);
            return out;
          },
          "The type of each summary by its name.")
      .def_prop_ro(
          "states",
          [](const ir::Program& program) {
            std::map<std::string, std::string> out;
            for (const ir::State& state : program.states)
              out[state.name] = ir::print(ir::reader_of(program, state.name)->type);
            return out;
          },
          "The type of each state by its name.")
      .def_prop_ro(
          "layers",
          [](const ir::Program& program) {
            nb::list out;
            for (const ir::LayerFlow& other : program.others)
              out.append(nb::make_tuple(other.layers, ir::Program(*other.flow)));
            return out;
          },
          "Layers that have flows of their own, and these.")
      .def(
          "with_layers",
          [](ir::Program program, const std::string& layers, const ir::Program& other) {
            ir::add_layers(program, ir::read_layers("layers", layers), other, {});
            ir::verify(program);
            return program;
          },
          nb::arg("layers"), nb::arg("other"),
          "A verified copy in which some layers, \"0,1\" or \"0-3\", have another flow.")
      .def_prop_ro(
          "parameters",
          [](const ir::Program& program) {
            std::map<std::string, std::string> out;
            for (const ir::Node* node : ir::parameters_of(program))
              out[ir::text_of(node->attributes, "name")] = ir::print(node->type);
            return out;
          },
          "The type of each learned parameter by its name.")
      .def_prop_ro(
          "weights_file", [](const ir::Program& program) { return program.weights.file; },
          "The file beside the flow that it names for them, or nothing.")
      .def_prop_ro(
          "has_weights", [](const ir::Program& program) { return program.weights.tensors != nullptr; },
          "Whether numbers are attached.")
      .def(
          "with_weights",
          [](const ir::Program& program, const std::map<std::string, Floats>& tensors) {
            ir::Parameters given;
            for (const auto& [name, array] : tensors) {
              ir::Parameter& tensor = given[name];
              for (std::size_t i = 0; i < array.ndim(); ++i)
                tensor.shape.push_back(static_cast<std::int64_t>(array.shape(i)));
              tensor.data.assign(array.data(), array.data() + array.size());
            }
            return ir::attach_weights(program, given);
          },
          nb::arg("tensors"), "A copy with the numbers of its parameters, float32 arrays by name.")
      .def(
          "text", [](const ir::Program& program) { return ir::print(program); },
          "The canonical text; parse reads it back.")
      .def("json", &ir::to_json)
      .def("canonical", &ir::canonicalize)
      .def_prop_ro("hash", &ir::canonical_hash, "Equal for flows that mean the same under the same settings.")
      .def(
          "with_settings",
          [](ir::Program program, const std::map<std::string, std::string>& settings) {
            set_all(program.config, settings);
            ir::verify(program);
            return program;
          },
          nb::arg("settings"), "A verified copy with other settings, each given as text.")
      .def("verify", [](const ir::Program& program) { ir::verify(program); })
      .def(
          "verify_for",
          [](const ir::Program& program, std::int64_t head_dim, std::int64_t group, std::int64_t value_dim) {
            ir::verify(
                program,
                {.page_size = program.config.page_size, .head_dim = head_dim, .group = group, .value_dim = value_dim});
          },
          nb::arg("head_dim"), nb::arg("group"), nb::arg("value_dim") = 0, "Checks that the flow fits a model.")
      .def("__eq__", [](const ir::Program& a, const ir::Program& b) { return a == b; })
      .def("__str__", [](const ir::Program& program) { return ir::print(program); })
      .def("__repr__", [](const ir::Program& program) {
        return concat("Program(\"", program.name, "\", ", program.nodes.size(), " values)");
      });
  m.def("parse_flow", &ir::parse, nb::arg("text"), "Reads the text form. Call verify() on what comes from outside.");
  m.def("parse_flow_json", &ir::from_json, nb::arg("text"),
        "Reads the JSON form. Call verify() on what comes from outside.");
}

// Tracing speaks in numbers of values, so that a Python value is a small Python object.
void bind_tracer(nb::module_& m) {
  using flow::Flow;
  nb::class_<Flow>(m, "FlowTracer", "A flow being traced: ops are appended one by one.")
      .def(nb::init<std::string, std::string>(), nb::arg("name"), nb::arg("doc"))
      .def("set", &Flow::set, nb::arg("name"), nb::arg("value"))
      .def("weights", &Flow::weights, nb::arg("file"))
      .def(
          "append",
          [](Flow& self, const std::string& op, const std::vector<int>& inputs, const flow::Settings& settings,
             const std::string& file, int line) {
            if (inputs.empty()) return self.source(op, settings, {file, line}).id();
            std::vector<flow::Value> operands;
            for (int input : inputs) operands.push_back(self.value(input));
            return flow::apply(op, operands, settings, {file, line}).id();
          },
          nb::arg("op"), nb::arg("inputs"), nb::arg("settings"), nb::arg("file"), nb::arg("line"))
      .def(
          "summarize",
          [](Flow& self, const std::string& name, int value, const std::string& file, int line) {
            self.summarize(name, self.value(value), {file, line});
          },
          nb::arg("name"), nb::arg("value"), nb::arg("file"), nb::arg("line"))
      .def(
          "set_state",
          [](Flow& self, int state, int value, const std::string& file, int line) {
            self.value(state).set(self.value(value), {file, line});
          },
          nb::arg("state"), nb::arg("value"), nb::arg("file"), nb::arg("line"))
      .def(
          "score", [](Flow& self, int value) { self.score(self.value(value)); }, nb::arg("value"))
      .def(
          "select", [](Flow& self, int set) { self.select(self.value(set)); }, nb::arg("set"))
      .def(
          "rest", [](Flow& self, int logit, int value) { self.rest(self.value(logit), self.value(value)); },
          nb::arg("logit"), nb::arg("value"))
      .def(
          "budget", [](Flow& self, int value) { self.budget(self.value(value)); }, nb::arg("value"))
      .def(
          "budget_snippet",
          [](Flow& self, const std::string& code, const flow::Settings& numbers, const std::string& file, int line) {
            self.budget(code, numbers, {file, line});
          },
          nb::arg("code"), nb::arg("numbers"), nb::arg("file"), nb::arg("line"),
          "The budget as the body of a CUDA C++ function.")
      .def(
          "type_of", [](const Flow& self, int value) { return self.value(value).type(); }, nb::arg("value"))
      .def(
          "group_pages_of",
          [](const Flow& self, int value) {
            self.value(value);  // checked
            return self.program().node(value).type.domain.pages;
          },
          nb::arg("value"), "Pages of one instance: 1, or those of a group.")
      .def(
          "finish", [](const Flow& self) { return ir::Program(self.finish()); }, "The verified program.");
}

}  // namespace

void bind_flow(nb::module_& m) {
  bind_config(m);
  bind_program(m);
  bind_tracer(m);
  m.def("op_table", &op_table, "Every op: name, doc, kind, arity, attributes.");
  m.def("interpret_summaries", &interpret_summaries, nb::arg("program"), nb::arg("k"), nb::arg("v"),
        nb::arg("group") = 1,
        "Summaries of one full page in double precision. k: [page_size, head_dim], v: [page_size, value_dim]; of a "
        "group of "
        "so many pages: all its tokens.");
  m.def("interpret_scores", &interpret_scores, nb::arg("program"), nb::arg("q"), nb::arg("summaries"),
        nb::arg("page_indices"), nb::arg("tokens") = 0, nb::arg("step") = 0, nb::arg("layer") = 0,
        nb::arg("layers") = 1, nb::arg("scale") = 1.0, nb::arg("value_dim") = 0,
        nb::arg("states") = std::map<std::string, Array>(),
        "One score a candidate in double precision; of a flow that selects a set, 1 for each page of it, else 0. q: "
        "[group, head_dim], already scaled; summaries: [candidates, "
        "axes...].");
  m.def(
      "interpret_states", &interpret_states, nb::arg("program"), nb::arg("q"), nb::arg("summaries"),
      nb::arg("page_indices"), nb::arg("states") = std::map<std::string, Array>(), nb::arg("tokens") = 0,
      nb::arg("step") = 0, nb::arg("layer") = 0, nb::arg("layers") = 1, nb::arg("scale") = 1.0,
      nb::arg("value_dim") = 0,
      "What the states are in the next step, in double precision. states: as they are, [candidates, axes...] of pages "
      "and [axes...] of the sequence; one that is missing is as it is before the first step.");
  m.def(
      "interpret_selection",
      [](const ir::FlowConfig& config, std::int64_t pages, const std::vector<double>& scores) {
        return ir::interpret_selection(config, pages, ir::candidates_of(config, pages), scores);
      },
      nb::arg("config"), nb::arg("pages"), nb::arg("scores"),
      "The ascending page list of a row; scores are those of its candidates.");
  m.def("candidates_of", &ir::candidates_of, nb::arg("config"), nb::arg("pages"), "The logical pages a flow scores.");
}

}  // namespace vortex::python
