#include "compiler/explain.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "base/text.h"
#include "compiler/passes/schedule.h"
#include "ir/op.h"

namespace vortex::compiler {

namespace {

// 12.3 kB, 4.56 MB
std::string amount(double value, const char* unit) {
  static constexpr const char* scales[] = {" ", " k", " M", " G", " T"};
  std::size_t scale = 0;
  while (value >= 1000.0 && scale + 1 < std::size(scales)) {
    value /= 1000.0;
    ++scale;
  }
  return concat(scale == 0 ? value : std::round(value * 100.0) / 100.0, scales[scale], unit);
}

std::string value_name(const Plan& plan, ir::ValueId id) {
  const ir::Node& node = plan.program.node(id);
  if (ir::is_state(node))
    return concat(node.op->name == "page_state" ? "page" : "seq", ".keep(\"", ir::text_of(node.attributes, "name"),
                  "\")");
  if (node.op->name == "confine" && is_read_again(plan.program, id))
    return value_name(plan, source_of(plan.program, id));  // of the pages that the stage runs over
  if (node.op->name == "summary") return concat("page.", ir::text_of(node.attributes, "name"));
  if (node.op->name == "constant") return print_number(ir::number_of(node.attributes, "value"));
  if (node.op->kind == ir::OpKind::source) return node.op->name;
  return concat('%', id);
}

// "%11 = sub(%9, %10)  [head]", sources left out: they stand where they are read.
std::string line(const Plan& plan, ir::ValueId id) {
  const ir::Node& node = plan.program.node(id);
  std::vector<std::string> arguments;
  for (ir::ValueId input : node.inputs) arguments.push_back(value_name(plan, input));
  if (const std::string axis = ir::axis_of(node); !axis.empty()) arguments.push_back(concat("over ", axis));
  std::vector<std::string> axes;
  for (const ir::Axis& axis : node.type.axes)
    axes.push_back(concat(axis.name, " ", ir::bind(axis.extent, plan.geometry).value_or(0)));
  return concat("  %", id, " = ", node.op->name, "(", join(arguments, ", "), ")",
                axes.empty() ? "" : concat("  [", join(axes, ", "), "]"), "\n");
}

std::string when(const Stage& stage) {
  const std::int64_t pages = stage.domain.pages;
  switch (stage.kind) {
    case StageKind::summarize:
      return pages > 1 ? concat("once, when a group of ", pages, " pages is full") : "once, when a page is full";
    case StageKind::row:
      return "once a row and step";
    case StageKind::page:
      if (stage.domain.kind == ir::Domain::Kind::in_set)
        return concat("over the ", pages > 1 ? "groups" : "pages", " listed by %", stage.domain.set);
      return pages > 1 ? concat("over the groups of ", pages, " pages of a row") : "over all candidates of a row";
    case StageKind::finish:
      return "once a row, when all its pages are scored";
  }
  return "";
}

std::string stages(const Plan& plan, const std::vector<StagePrice>& prices) {
  std::string out;
  std::map<StageKind, int> numbers;
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const Stage& stage = plan.stages[s];
    const StagePrice& at = prices[s];
    out += name_of(stage.kind);
    if (stage.kind == StageKind::page || stage.kind == StageKind::finish) out += concat(" ", numbers[stage.kind]++);
    out += concat(", ", when(stage), ": reads ", amount(at.read_bytes, "B"), ", keeps ", amount(at.kept_bytes, "B"),
                  ", ", amount(at.operations, "op"), "\n");
    for (ir::ValueId id : stage.nodes)
      if (plan.program.node(id).op->kind != ir::OpKind::source && !is_read_again(plan.program, id))
        out += line(plan, id);
    for (const ir::State& state : plan.program.states)
      if (stage.kind != StageKind::summarize &&
          std::find(stage.nodes.begin(), stage.nodes.end(), state.value) != stage.nodes.end())
        out += concat("  ", state.name, ".set(", value_name(plan, state.value), ")\n");
    if (stage.kind == StageKind::summarize)
      for (const ir::Summary& summary : plan.program.summaries)
        if (plan.program.node(summary.value).type.domain == stage.domain)
          out += concat("  page.", summary.name, " = ", value_name(plan, summary.value), "\n");
  }
  return out;
}

}  // namespace

std::string explain(const Plan& plan, const Workload& work) {
  const Price total = price(plan, work);
  std::string out = concat(plan.program.name, ": ", total.pages, " pages of ", plan.geometry.page_size,
                           " tokens a row, ", total.candidates, " candidates, ", total.attended_pages, " attended\n");
  out += stages(plan, total.stages);
  for (std::size_t i = 0; i < plan.others.size(); ++i)
    out += concat("layers ", ir::print_layers(plan.others[i].layers), ": ", plan.others[i].plan->program.name, "\n",
                  stages(*plan.others[i].plan, total.other_stages[i]));
  if (total.candidates > 0)
    out += concat("select: reads ", amount(static_cast<double>(total.candidates) * 4, "B"), "\n");
  out += concat(
      "attend: reads ",
      amount(static_cast<double>(total.attended_tokens * total.kv_bytes_per_page / plan.geometry.page_size), "B"),
      " of ", amount(static_cast<double>(work.context * total.kv_bytes_per_page / plan.geometry.page_size), "B"), "\n");
  out += concat("one step of ", work.batch, " sequences, ", work.layers, " layers, ", work.kv_heads,
                " KV heads: score ", amount(total.score_bytes, "B"), ", select ", amount(total.select_bytes, "B"),
                ", attend ", amount(total.attend_bytes, "B"), ", weights ", amount(total.weight_bytes, "B"),
                "; full attention ", amount(total.full_attention_bytes, "B"), "\n");
  out += concat("memory: summaries ", amount(static_cast<double>(total.summary_pool_bytes), "B"),
                " beside keys and values of ", amount(static_cast<double>(total.kv_pool_bytes), "B"),
                total.carried_bytes_per_sequence > 0
                    ? concat("; carried from step to step ",
                             amount(static_cast<double>(total.carried_bytes_per_sequence), "B"), " a sequence")
                    : "",
                "\n");
  const ir::FlowConfig& config = plan.program.config;
  std::int64_t taking = 0;
  for (std::int64_t layer = 0; layer < work.layers; ++layer) taking += config.source_of(layer) != layer;
  if (taking > 0) out += concat("reuse: ", taking, " of ", work.layers, " layers take the set of an earlier one\n");
  if (config.refresh_every > 1)
    out += concat("refresh: pages are chosen at every ", config.refresh_every,
                  ". step; the bytes of score and select are those of an average step\n");
  return out;
}

}  // namespace vortex::compiler
