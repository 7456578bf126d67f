// Rebuilding programs, and dropping what no root reads.
#include "compiler/rewrite.h"

#include "base/check.h"

namespace vortex::compiler {

using ir::Node;
using ir::Program;
using ir::ValueId;

Rewriter::Rewriter(const Program& source) : source_(source) {
  built_.name = source.name;
  built_.doc = source.doc;
  built_.config = source.config;
  built_.weights = source.weights;
}

ValueId Rewriter::make(std::string_view op, std::vector<ValueId> inputs, ir::Attributes attributes) {
  return make(ir::op_named(op), std::move(inputs), std::move(attributes));
}

ValueId Rewriter::make(const ir::OpDef& definition, std::vector<ValueId> inputs, ir::Attributes attributes) {
  auto key = std::make_tuple(&definition, inputs, attributes);
  if (auto found = known_.find(key); found != known_.end()) return found->second;
  ValueId id = ir::append(built_, definition, std::move(inputs), std::move(attributes),
                          location_ != nullptr ? *location_ : ir::SourceLocation{});
  known_.emplace(std::move(key), id);
  return id;
}

ValueId Rewriter::constant(double value) { return make("constant", {}, {{"value", value}}); }

ValueId Rewriter::product(const std::vector<ValueId>& factors) {
  if (factors.empty()) return constant(1.0);
  ValueId out = factors[0];
  for (std::size_t i = 1; i < factors.size(); ++i) out = make("mul", {out, factors[i]});
  return out;
}

bool Rewriter::is(ValueId id, std::string_view op) const { return node(id).op->name == op; }

bool Rewriter::is_page(ValueId id) const { return node(id).type.domain.has_instances(); }

bool Rewriter::has_axis(ValueId id, std::string_view axis) const {
  return ir::find_axis(node(id).type, axis) != nullptr;
}

ValueId Rewriter::copy(const Node& old, std::vector<ValueId> inputs) {
  return make(*old.op, std::move(inputs), old.attributes);
}

void Rewriter::declare_summaries(ValueId upto) {
  for (; declared_ < source_.summaries.size() && source_.summaries[declared_].value <= upto; ++declared_) {
    const ir::Summary& summary = source_.summaries[declared_];
    ir::declare_summary(built_, summary.name, renamed_[static_cast<std::size_t>(summary.value)],
                        source_.node(summary.value).location);
  }
}

Program Rewriter::finish() const {
  std::vector<bool> live(built_.nodes.size(), false);
  for (const ir::Summary& summary : built_.summaries) live[static_cast<std::size_t>(summary.value)] = true;
  auto built_root = [&](const ir::RootDef& root) {
    const ValueId id = source_.*root.value;
    return id < 0 ? ValueId{-1} : renamed_[static_cast<std::size_t>(id)];
  };
  for (const ir::RootDef& root : ir::all_roots())
    if (const ValueId id = built_root(root); id >= 0) live[static_cast<std::size_t>(id)] = true;
  auto built_state = [&](const ir::State& state) { return renamed_[static_cast<std::size_t>(state.value)]; };
  for (const ir::State& state : source_.states) live[static_cast<std::size_t>(built_state(state))] = true;
  for (std::size_t id = live.size(); id-- > 0;)
    if (live[id])
      for (ValueId input : built_.nodes[id].inputs) live[static_cast<std::size_t>(input)] = true;

  Program out;
  out.name = built_.name;
  out.doc = built_.doc;
  out.config = built_.config;
  out.weights = built_.weights;
  std::vector<ValueId> moved(live.size(), -1);
  for (std::size_t id = 0; id < live.size(); ++id) {
    if (!live[id]) continue;
    Node node = built_.nodes[id];
    for (ValueId& input : node.inputs) input = moved[static_cast<std::size_t>(input)];
    if (ir::Domain& domain = node.type.domain; domain.set >= 0)
      domain.set = moved[static_cast<std::size_t>(domain.set)];
    moved[id] = static_cast<ValueId>(out.nodes.size());
    out.nodes.push_back(std::move(node));
  }
  for (const ir::Summary& summary : built_.summaries)
    out.summaries.push_back({summary.name, moved[static_cast<std::size_t>(summary.value)]});
  for (const ir::RootDef& root : ir::all_roots())
    if (const ValueId id = built_root(root); id >= 0) out.*root.value = moved[static_cast<std::size_t>(id)];
  for (const ir::State& state : source_.states)
    out.states.push_back({state.name, moved[static_cast<std::size_t>(built_state(state))]});
  return out;
}

}  // namespace vortex::compiler
