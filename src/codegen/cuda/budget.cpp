// A budget that the flow computes, as the device function `flow_budget` in double precision.
#include "codegen/cuda/budget.h"

#include <cmath>

#include "base/check.h"
#include "base/text.h"
#include "codegen/cuda/scope.h"
#include "ir/rows.h"

namespace vortex::codegen {

namespace {

std::string print_double(double value) {
  if (std::isnan(value)) return "(infinity() - infinity())";
  if (std::isinf(value)) return value > 0 ? "infinity()" : "(-infinity())";
  std::string text = print_number(value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return value < 0 ? concat("(", text, ")") : text;
}

}  // namespace

bool computes_budget(const ir::Program& program) {
  return program.budget >= 0 && !ir::budget_in_numbers(program.config);
}

std::string print_budget(const compiler::Plan& plan) {
  const ir::Program& program = plan.program;
  std::vector<bool> live(static_cast<std::size_t>(program.budget) + 1, false);
  live.back() = true;
  for (std::size_t id = live.size(); id-- > 0;)
    if (live[id])
      for (const ir::ValueId input : program.nodes[id].inputs) live[static_cast<std::size_t>(input)] = true;
  std::string out =
      "\n#define VORTEX_BUDGET 1\nnamespace in_double {\n"
      "__device__ inline double flow_budget(const BudgetContext& c) {\n  static_cast<void>(c);\n";
  for (std::size_t id = 0; id < live.size(); ++id) {
    if (!live[id]) continue;
    const ir::Node& node = program.nodes[id];
    std::string text;
    if (node.op->name == "constant") {
      text = print_double(ir::number_of(node.attributes, "value"));
    } else if (node.op->of_sequence) {
      text = concat("source_", node.op->name, "(c)");
    } else {
      if (node.op->cuda.empty()) fail_without_cuda(plan, node);
      std::vector<std::string> operands;
      for (const ir::ValueId input : node.inputs) operands.push_back(concat("v", input));
      text = fill_in(node, operands, print_double);
    }
    out += concat("  const Number v", id, " = ", text, ";\n");
  }
  return concat(out, "  return v", program.budget, ".value;\n}\n}  // namespace in_double\n");
}

}  // namespace vortex::codegen
