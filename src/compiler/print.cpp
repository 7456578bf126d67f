// A plan as text: its geometry and its stages, one value a line as the IR prints it.
#include <algorithm>

#include "base/text.h"
#include "compiler/plan.h"
#include "ir/op.h"
#include "ir/text.h"

namespace vortex::compiler {

const char* name_of(StageKind kind) {
  switch (kind) {
    case StageKind::summarize:
      return "summarize";
    case StageKind::row:
      return "row";
    case StageKind::page:
      return "page";
    case StageKind::finish:
      return "finish";
  }
  return "?";
}

namespace {

std::string names(const std::vector<ir::ValueId>& values) {
  std::vector<std::string> out;
  for (ir::ValueId value : values) out.push_back(concat('%', value));
  return join(out, ", ");
}

std::string print_node(const ir::Node& node, ir::ValueId id) {
  std::vector<std::string> arguments;
  for (ir::ValueId input : node.inputs) arguments.push_back(concat('%', input));
  for (const auto& [name, value] : node.attributes) arguments.push_back(concat(name, "=", ir::attribute_text(value)));
  return concat("%", id, " = ", node.op->name, "(", join(arguments, ", "), ") : ", print(node.type));
}

}  // namespace

std::string print(const Plan& plan) {
  std::string out =
      concat("plan ", plan.program.name, " page_size=", plan.geometry.page_size, " head_dim=", plan.geometry.head_dim,
             plan.geometry.value_dim > 0 ? concat(" value_dim=", plan.geometry.value_dim) : "",
             " group=", plan.geometry.group, "\n");
  int page = 0, finish = 0;
  for (const Stage& stage : plan.stages) {
    out += name_of(stage.kind);
    if (stage.kind == StageKind::page) out += concat(" ", page++);
    if (stage.kind == StageKind::finish) out += concat(" ", finish++);
    if (stage.domain.kind != ir::Domain::Kind::page) out += concat(" @", print(stage.domain));
    if (!stage.inputs.empty()) out += concat(" reads ", names(stage.inputs));
    out += "\n";
    for (ir::ValueId id : stage.nodes) out += concat("  ", print_node(plan.program.node(id), id), "\n");
    if (stage.kind == StageKind::summarize) {
      for (const ir::Summary& summary : plan.program.summaries)
        if (plan.program.node(summary.value).type.domain == stage.domain)
          out += concat("  page.", summary.name, " = %", summary.value, "\n");
    } else if (!stage.outputs.empty()) {
      out += concat("  -> ", names(stage.outputs), "\n");
    }
    for (const ir::State& state : plan.program.states)
      if (stage.kind != StageKind::summarize &&
          std::find(stage.nodes.begin(), stage.nodes.end(), state.value) != stage.nodes.end())
        out += concat("  state ", state.name, " = %", state.value, "\n");
  }
  for (const LayerPlan& other : plan.others)
    out += concat("layers ", ir::print_layers(other.layers), "\n", print(*other.plan));
  return out;
}

}  // namespace vortex::compiler
