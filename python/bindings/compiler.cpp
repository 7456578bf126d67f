// Plans and prices from Python: what a flow becomes, pass by pass, and what it costs by its plan alone.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bindings/bindings.h"
#include "compiler/explain.h"
#include "compiler/plan.h"
#include "compiler/price.h"

namespace nb = nanobind;

namespace vortex::python {

using compiler::PassReport;
using compiler::Plan;
using compiler::Price;
using compiler::Workload;

namespace {

// A function of a plan and a workload, whose parts Python names.
template <class Result>
void define_on_workload(nb::module_& m, const char* name, Result (*of)(const Plan&, const Workload&), const char* doc) {
  m.def(
      name,
      [of](const Plan& plan, std::int64_t layers, std::int64_t heads, std::int64_t kv_heads, std::int64_t head_dim,
           std::int64_t context, std::int64_t batch, std::int64_t token_bytes, std::int64_t weight_bytes,
           std::int64_t weights) {
        return of(plan, {.layers = layers,
                         .heads = heads,
                         .kv_heads = kv_heads,
                         .head_dim = head_dim,
                         .context = context,
                         .batch = batch,
                         .token_bytes = token_bytes,
                         .weight_bytes = weight_bytes,
                         .weights = weights});
      },
      nb::arg("plan"), nb::kw_only(), nb::arg("layers"), nb::arg("heads"), nb::arg("kv_heads"), nb::arg("head_dim"),
      nb::arg("context"), nb::arg("batch") = 1, nb::arg("token_bytes") = 0, nb::arg("weight_bytes") = 0,
      nb::arg("weights") = 0, doc);
}

}  // namespace

void bind_compiler(nb::module_& m) {
  nb::class_<PassReport>(m, "PassReport", "What one pass did.")
      .def_ro("name", &PassReport::name)
      .def_ro("microseconds", &PassReport::microseconds)
      .def_ro("changed", &PassReport::changed)
      .def_ro("text", &PassReport::text, "The program after the pass, when asked for.");

  nb::class_<Plan>(m, "Plan", "A flow bound to a geometry and cut into stages.")
      .def_ro("passes", &Plan::passes)
      .def_ro("program", &Plan::program, "The program as the passes left it.")
      .def_prop_ro(
          "stages",
          [](const Plan& plan) {
            std::vector<std::string> names;
            for (const compiler::Stage& stage : plan.stages) names.push_back(compiler::name_of(stage.kind));
            return names;
          },
          "The kinds of the stages, in order.")
      .def("text", [](const Plan& plan) { return compiler::print(plan); })
      .def("__str__", [](const Plan& plan) { return compiler::print(plan); });

  m.def(
      "compile_flow",
      [](const ir::Program& program, std::int64_t head_dim, std::int64_t group, std::int64_t value_dim,
         std::vector<std::string> without, bool keep_text) {
        return compiler::compile(
            program,
            {.page_size = program.config.page_size, .head_dim = head_dim, .group = group, .value_dim = value_dim},
            {.disabled_passes = std::move(without), .keep_text = keep_text});
      },
      nb::arg("program"), nb::arg("head_dim"), nb::arg("group"), nb::kw_only(), nb::arg("value_dim") = 0,
      nb::arg("without") = std::vector<std::string>(), nb::arg("keep_text") = false,
      "The plan of a flow on a model; value_dim 0: head_dim; `without` names passes to leave out.");
  m.def("pass_names", &compiler::pass_names);

  nb::class_<Price>(m, "Price", "What a decode step costs by its plan alone.")
      .def_ro("pages", &Price::pages)
      .def_ro("candidates", &Price::candidates)
      .def_ro("attended_pages", &Price::attended_pages)
      .def_ro("attended_tokens", &Price::attended_tokens)
      .def_ro("summary_bytes_per_page", &Price::summary_bytes_per_page)
      .def_ro("kv_bytes_per_page", &Price::kv_bytes_per_page)
      .def_ro("carried_bytes_per_sequence", &Price::carried_bytes_per_sequence)
      .def_ro("score_bytes", &Price::score_bytes)
      .def_ro("flat_score_bytes", &Price::flat_score_bytes,
              "Score bytes if every sparse layer read the summaries of every candidate page at every step.")
      .def_ro("score_operations", &Price::score_operations)
      .def_ro("loose_score_operations", &Price::loose_score_operations,
              "Of them those that are no contraction of a summary: what a CPU computes beside the bytes it reads.")
      .def_ro("attend_bytes", &Price::attend_bytes)
      .def_ro("full_attention_bytes", &Price::full_attention_bytes)
      .def_ro("weight_bytes", &Price::weight_bytes)
      .def_ro("select_bytes", &Price::select_bytes)
      .def_ro("attend_operations", &Price::attend_operations)
      .def_ro("full_attention_operations", &Price::full_attention_operations)
      .def_ro("weight_operations", &Price::weight_operations)
      .def_ro("summary_pool_bytes", &Price::summary_pool_bytes)
      .def_ro("kv_pool_bytes", &Price::kv_pool_bytes)
      .def_prop_ro(
          "stages",
          [](const Price& price) {
            nb::list out;
            for (const compiler::StagePrice& stage : price.stages) {
              nb::dict row;
              row["stage"] = compiler::name_of(stage.kind);
              row["read_bytes"] = stage.read_bytes;
              row["kept_bytes"] = stage.kept_bytes;
              row["operations"] = stage.operations;
              out.append(row);
            }
            return out;
          },
          "One row of a sparse layer in one step, stage by stage; summarize: one page of one KV head.")
      .def_prop_ro("attention_speedup", &Price::attention_speedup, "Bytes of full attention over bytes of this flow's.")
      .def_prop_ro("step_speedup", &Price::step_speedup, "The same with the weights on both sides.");

  nb::class_<compiler::Roofline>(m, "Roofline", "The least seconds of one decode step on a device, part by part.")
      .def_ro("score", &compiler::Roofline::score)
      .def_ro("select", &compiler::Roofline::select)
      .def_ro("attend", &compiler::Roofline::attend)
      .def_ro("linears", &compiler::Roofline::linears)
      .def_ro("full_attention", &compiler::Roofline::full_attention)
      .def_prop_ro("step", &compiler::Roofline::step)
      .def_prop_ro("full_step", &compiler::Roofline::full_step)
      .def_prop_ro("speedup", &compiler::Roofline::speedup);
  m.def(
      "roofline",
      [](const Price& price, double bytes_per_second, double operations_per_second) {
        return compiler::roofline(price, {"", bytes_per_second, operations_per_second});
      },
      nb::arg("price"), nb::arg("bytes_per_second"), nb::arg("operations_per_second") = 0.0,
      "The least seconds of a step on a device that reads and computes so fast at most; 0 operations: no limit.");

  define_on_workload(m, "price", &compiler::price,
                     "Bytes and operations of one decode step of `batch` sequences of `context` tokens. token_bytes: "
                     "of the K and V of one token and KV head as stored; 0: both in bf16.");
  define_on_workload(m, "explain", &compiler::explain, "The stages as readable text, with what each reads and keeps.");
}

}  // namespace vortex::python
