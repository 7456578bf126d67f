// How values of different domains meet, and which groups a row scores.
#include <algorithm>

#include "base/arithmetic.h"
#include "ir/interpret.h"
#include "ir/op.h"

namespace vortex::ir {

GroupRange groups_of(std::int64_t pages, std::int64_t first_candidate, std::int64_t candidates,
                     std::int64_t full_pages) {
  const std::int64_t first = first_candidate / pages;
  const std::int64_t end = std::min(full_pages / pages, ceil_div(first_candidate + candidates, pages));
  return {first, candidates > 0 ? std::max<std::int64_t>(end - first, 0) : 0};
}

namespace {

ValueId set_of(const Program& program, std::int64_t list) { return program.node(static_cast<ValueId>(list)).inputs[0]; }

}  // namespace

bool is_sublist(const Program& program, ValueId list, ValueId other) {
  const ValueId set = set_of(program, list), whole = set_of(program, other);
  if (set == whole) return true;
  std::vector<bool> inside(static_cast<std::size_t>(set) + 1, false);  // of sets, operands first
  auto is_inside = [&](ValueId id) { return inside[static_cast<std::size_t>(id)]; };
  for (ValueId id = 0; id <= set; ++id) {
    const Node& node = program.node(id);
    if (node.type.dtype != DType::set || !node.type.domain.has_instances()) continue;
    bool holds = id == whole;
    if (node.op->name == "both") holds = holds || is_inside(node.inputs[0]) || is_inside(node.inputs[1]);
    if (node.op->name == "either") holds = holds || (is_inside(node.inputs[0]) && is_inside(node.inputs[1]));
    if (node.op->kind == OpKind::selection)
      if (const Domain& from = program.node(node.inputs[0]).type.domain; from.kind == Domain::Kind::in_set)
        holds = holds || is_inside(set_of(program, from.set)) || set_of(program, from.set) == whole;
    inside[static_cast<std::size_t>(id)] = holds;
  }
  return is_inside(set);
}

ValueId append_meeting(Program& program, const OpDef& op, std::vector<ValueId> inputs, Attributes attributes,
                       SourceLocation location) {
  ValueId list = -1;
  if (!op.takes_any && op.kind != OpKind::list)
    for (ValueId input : inputs) {
      if (input < 0 || static_cast<std::size_t>(input) >= program.nodes.size()) break;  // append has the words
      const Domain& domain = program.node(input).type.domain;
      if (domain.kind != Domain::Kind::in_set) continue;
      if (list < 0 || is_sublist(program, static_cast<ValueId>(domain.set), list))
        list = static_cast<ValueId>(domain.set);
    }
  if (list < 0) return append(program, op, std::move(inputs), std::move(attributes), std::move(location));
  const std::int64_t pages = program.node(list).type.domain.pages;
  for (ValueId& input : inputs) {
    const Domain& domain = program.node(input).type.domain;
    const bool wider =
        domain.has_instances() && domain.pages == pages && domain.set != list &&
        (domain.kind != Domain::Kind::in_set || is_sublist(program, list, static_cast<ValueId>(domain.set)));
    if (wider) input = append(program, op_named("confine"), {input, list}, {}, location);
  }
  const bool makes_set = op.name == "threshold" || op.name == "first" || op.name == "last";
  if (!makes_set) return append(program, op, std::move(inputs), std::move(attributes), std::move(location));
  // Pages outside have no number; they are not in the set.
  for (ValueId& input : inputs)
    if (program.node(input).type.domain.kind == Domain::Kind::in_set)
      input = append(program, op_named("spread"), {input}, {{"other", 0.0}}, location);
  const ValueId all = append(program, op, std::move(inputs), std::move(attributes), location);
  return append(program, op_named("both"), {all, program.node(list).inputs[0]}, {}, location);
}

}  // namespace vortex::ir
