#include "compiler/passes/facts.h"

#include <algorithm>

#include "compiler/rewrite.h"

namespace vortex::compiler {

using ir::Node;
using ir::Program;
using ir::ValueId;

namespace {

// The node that makes the summary this node reads.
const Node* maker_of(const Program& program, const Node& node) {
  for (const ir::Summary& summary : program.summaries)
    if (summary.name == ir::text_of(node.attributes, "name")) return &program.node(summary.value);
  return nullptr;
}

// min and max of one value over one axis.
bool is_min_and_max(const Node& a, const Node& b) {
  return a.op->name == "min" && b.op->name == "max" && a.inputs == b.inputs && a.attributes == b.attributes;
}

}  // namespace

bool is_ordered(const Program& program, ValueId a, ValueId b) {
  const Node &low = program.node(a), &high = program.node(b);
  if (low.op->name == "summary" && high.op->name == "summary") {
    const Node *low_maker = maker_of(program, low), *high_maker = maker_of(program, high);
    return low_maker != nullptr && high_maker != nullptr && is_min_and_max(*low_maker, *high_maker);
  }
  if (is_min_and_max(low, high)) return true;
  // The same elements of both: slices, splits and renamings keep the order, and so do the pages of one set.
  const bool picks = low.op->kind == ir::OpKind::shape || low.op->kind == ir::OpKind::domain;
  return low.op == high.op && picks && low.attributes == high.attributes &&
         std::equal(low.inputs.begin() + 1, low.inputs.end(), high.inputs.begin() + 1) &&
         is_ordered(program, low.inputs[0], high.inputs[0]);
}

bool is_nonnegative(const Program& program, ValueId root) {
  // It is when all values are that it is made of, down to those that are by themselves; each is asked once.
  std::vector<bool> seen(program.nodes.size(), false);
  std::vector<ValueId> waiting{root};
  while (!waiting.empty()) {
    const ValueId id = waiting.back();
    waiting.pop_back();
    if (seen[static_cast<std::size_t>(id)]) continue;
    seen[static_cast<std::size_t>(id)] = true;
    const Node& node = program.node(id);
    const std::string& name = node.op->name;
    if (node.op->nonnegative || (name == "mul" && node.inputs[0] == node.inputs[1])) continue;
    if (name == "constant" && ir::number_of(node.attributes, "value") >= 0.0) continue;
    if (name == "summary") {
      for (const ir::Summary& summary : program.summaries)
        if (summary.name == ir::text_of(node.attributes, "name")) waiting.push_back(summary.value);
      continue;
    }
    const bool keeps = name == "add" || name == "mul" || name == "div" || name == "minimum" || name == "dot" ||
                       name == "sum" || name == "mean" || name == "max" || name == "min" || name == "confine" ||
                       node.op->kind == ir::OpKind::shape;
    if (!keeps) return false;
    if (name == "confine") {
      waiting.push_back(node.inputs[0]);
      continue;
    }
    waiting.insert(waiting.end(), node.inputs.begin(), node.inputs.end());
  }
  return true;
}

Program use_facts(const Program& program, const ir::Geometry&) {
  Rewriter rewriter(program);
  return rewriter.run([&](const Node& node, const std::vector<ValueId>& inputs) -> ValueId {
    const bool largest = node.op->name == "maximum";
    if (!largest && node.op->name != "minimum") return -1;
    if (!rewriter.is(inputs[0], "mul") || !rewriter.is(inputs[1], "mul")) return -1;
    const std::vector<ValueId> a = rewriter.node(inputs[0]).inputs, b = rewriter.node(inputs[1]).inputs;
    for (std::size_t i = 0; i < 2; ++i) {
      for (std::size_t j = 0; j < 2; ++j) {
        if (a[i] != b[j] || rewriter.is_page(a[i])) continue;
        ValueId factor = a[i], low = a[1 - i], high = b[1 - j];
        if (is_ordered(rewriter.program(), high, low)) std::swap(low, high);
        if (!is_ordered(rewriter.program(), low, high)) continue;
        if (!largest) std::swap(low, high);
        if (is_nonnegative(rewriter.program(), factor)) return rewriter.make("mul", {factor, high});
        ValueId up = rewriter.make("relu", {factor});
        ValueId down = rewriter.make("relu", {rewriter.make("neg", {factor})});
        return rewriter.make("sub", {rewriter.make("mul", {up, high}), rewriter.make("mul", {down, low})});
      }
    }
    return -1;
  });
}

}  // namespace vortex::compiler
