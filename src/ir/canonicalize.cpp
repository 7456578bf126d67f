// The canonical form: two flows that compute the same by the rules below print the same canonical text (but for names).
// Rewrites are local and happen as nodes are built: a node is never built in a form that has a simpler one.
//   op(c, d) → constant            x op neutral → x            −(−x) → x            a > b → b < a
//   Σ a·b → dot(a, b)              commuted operands sorted    equal nodes are one  equal summaries are one
// A state counts by what it is set to, not by its name: colours of states are refined until they tell apart all that
// differ. Then, at the score only: strictly increasing ops, shifts and positive factors that are the same for all pages
// go, since top-k does not see them. Last, what nothing reads goes.
#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "base/text.h"
#include "ir/op.h"
#include "ir/rows.h"

namespace vortex::ir {

namespace {

// State → what tells it apart from others.
using Colours = std::map<std::string, std::uint64_t>;

class Canonicalizer {
 public:
  Canonicalizer(const Program& program, const Colours& colours) : source_(program), colours_(colours) {
    built_.name = program.name;
    built_.config = program.config;
    built_.weights = program.weights;
  }

  Program run() {
    rebuild();
    for (const RootDef& root : all_roots())
      if (const ValueId id = source_.*root.value; id >= 0) built_.*root.value = renamed_[static_cast<std::size_t>(id)];
    for (const State& state : source_.states)
      built_.states.push_back({state.name, renamed_[static_cast<std::size_t>(state.value)]});
    std::sort(built_.states.begin(), built_.states.end(), [&](const State& a, const State& b) {
      return std::pair(colours_.at(a.name), a.name) < std::pair(colours_.at(b.name), b.name);
    });
    if (built_.selection >= 0 && !states_use(built_.selection)) {
      const Node& set = node(built_.selection);
      if (set.op->name == "top_k" && node(set.inputs[1]).op->name == "seq_left") {  // what a score alone does
        built_.score = set.inputs[0];
        built_.selection = -1;
      }
    }
    if (built_.score >= 0) built_.score = rank_form(built_.score);
    if (budget_in_numbers(built_.config)) built_.budget = -1;
    return emit();
  }

  // Of what a state is set to; after run.
  std::uint64_t hash_of_state(const std::string& name) const {
    for (const State& state : built_.states)
      if (state.name == name) return hashes_[static_cast<std::size_t>(state.value)];
    return 0;
  }

  // Of what the emitted program is for; after run.
  std::uint64_t hash_of_roots(const Program& emitted) const {
    Hash hash;
    for (const State& state : emitted.states) {
      hash.add(colours_.at(state.name));
      hash.add(hash_of_state(state.name));
    }
    for (const RootDef& root : all_roots())
      hash.add(built_.*root.value < 0 ? 0 : hashes_[static_cast<std::size_t>(built_.*root.value)]);
    return hash.value();
  }

 private:
  const Node& node(ValueId id) const { return built_.node(id); }
  bool is_constant(ValueId id) const { return node(id).op->name == "constant"; }
  double constant(ValueId id) const { return number_of(node(id).attributes, "value"); }
  bool is_positive_constant(ValueId id) const {
    return is_constant(id) && constant(id) > 0.0 && std::isfinite(constant(id));
  }

  ValueId make_constant(double value, const SourceLocation& location) {
    return make(op_named("constant"), {}, {{"value", value}}, location);
  }

  // Builds a node in its simplest form, or finds it.
  ValueId make(const OpDef& op, std::vector<ValueId> inputs, Attributes attributes, const SourceLocation& location) {
    if (!op.mirror.empty()) return make(op_named(op.mirror), {inputs[1], inputs[0]}, std::move(attributes), location);
    if (op.ranks) inputs[0] = rank_form(inputs[0]);
    if (op.commutative && later(inputs[0], inputs[1])) std::swap(inputs[0], inputs[1]);
    if (op.scalar != nullptr &&
        std::all_of(inputs.begin(), inputs.end(), [&](ValueId id) { return is_constant(id); })) {
      std::vector<double> values;
      for (ValueId id : inputs) values.push_back(constant(id));
      if (double folded = op.scalar(values, attributes); !std::isnan(folded)) return make_constant(folded, location);
    }
    if (op.neutral && is_constant(inputs[1]) && constant(inputs[1]) == *op.neutral) return inputs[0];
    if (op.name == "neg" && node(inputs[0]).op->name == "neg") return node(inputs[0]).inputs[0];
    // Members of a set inside a set are taken from all pages at once.
    if (op.name == "confine" && node(inputs[0]).op->name == "confine") inputs[0] = node(inputs[0]).inputs[0];
    if (op.name == "sum" && node(inputs[0]).op->name == "mul") {
      const std::vector<ValueId> factors = node(inputs[0]).inputs;
      const std::string axis = text_of(attributes, "axis");
      if (find_axis(node(factors[0]).type, axis) != nullptr && find_axis(node(factors[1]).type, axis) != nullptr)
        return make(op_named("dot"), factors, {{"over", axis}}, location);
    }
    auto key = std::make_tuple(&op, inputs, attributes);
    if (auto found = known_.find(key); found != known_.end()) return found->second;
    ValueId id = append(built_, op, std::move(inputs), std::move(attributes), location);
    hashes_.push_back(hash_of(node(id)));
    known_.emplace(std::move(key), id);
    return id;
  }

  // Constants stand last, so that a neutral or a factor is always the right-hand operand.
  bool later(ValueId a, ValueId b) const {
    auto key = [&](ValueId id) { return std::make_pair(is_constant(id), hashes_[static_cast<std::size_t>(id)]); };
    return key(a) > key(b);
  }

  static void add_text(Hash& hash, const std::string& text) {
    hash.add(static_cast<std::uint64_t>(text.size()));
    hash.add(text);
  }

  std::uint64_t hash_of(const Node& node) const {
    Hash hash;
    add_text(hash, node.op->name);
    if (node.op->name == "summary") {  // what it holds, whatever it is called
      for (const Summary& summary : built_.summaries)
        if (summary.name == text_of(node.attributes, "name"))
          hash.add(hashes_[static_cast<std::size_t>(summary.value)]);
      return hash.value();
    }
    if (is_state(node)) hash.add(colours_.at(text_of(node.attributes, "name")));
    for (const auto& [name, value] : node.attributes) {
      if (is_state(node) && name == "name") continue;
      add_text(hash, name);
      if (const auto* integer = std::get_if<std::int64_t>(&value)) add_text(hash, std::to_string(*integer));
      if (const auto* number = std::get_if<double>(&value)) add_text(hash, print_number(*number));
      if (const auto* text = std::get_if<std::string>(&value)) add_text(hash, *text);
    }
    for (ValueId input : node.inputs) hash.add(hashes_[static_cast<std::size_t>(input)]);
    return hash.value();
  }

  // All nodes of the source, in order, each in its simplest form.
  void rebuild() {
    std::map<std::string, std::string> alias;  // summary → the first summary of the same value
    std::size_t declared = 0;
    for (std::size_t id = 0; id < source_.nodes.size(); ++id) {
      const Node& old = source_.nodes[id];
      std::vector<ValueId> inputs;
      for (ValueId input : old.inputs) inputs.push_back(renamed_[static_cast<std::size_t>(input)]);
      Attributes attributes = old.attributes;
      if (old.op->name == "summary") attributes["name"] = alias.at(text_of(attributes, "name"));
      renamed_.push_back(make(*old.op, std::move(inputs), std::move(attributes), old.location));
      for (; declared < source_.summaries.size() && source_.summaries[declared].value <= static_cast<ValueId>(id);
           ++declared) {
        const Summary& summary = source_.summaries[declared];
        ValueId value = renamed_[static_cast<std::size_t>(summary.value)];
        auto same = std::find_if(built_.summaries.begin(), built_.summaries.end(),
                                 [&](const Summary& other) { return other.value == value; });
        alias[summary.name] = same == built_.summaries.end() ? summary.name : same->name;
        if (same == built_.summaries.end()) declare_summary(built_, summary.name, value, old.location);
      }
    }
  }

  // Whether what a state is set to depends on a value.
  bool states_use(ValueId id) const {
    std::vector<bool> live(built_.nodes.size(), false);
    for (const State& state : built_.states) live[static_cast<std::size_t>(state.value)] = true;
    for (std::size_t at = live.size(); at-- > 0;)
      if (live[at])
        for (ValueId input : built_.nodes[at].inputs) live[static_cast<std::size_t>(input)] = true;
    return live[static_cast<std::size_t>(id)];
  }

  // A value that ranks pages as `id` does.
  ValueId rank_form(ValueId id) {
    for (ValueId before = -1; before != id;) {
      before = id;
      const Node& root = node(id);
      if (root.op->order_preserving && (axis_of(root).empty() || axis_of(root) == "page")) {
        id = root.inputs[0];
      } else if (root.op->shifts && is_shared(root.inputs[1])) {
        id = root.inputs[0];
      } else if (root.op->shifts && root.op->commutative && is_shared(root.inputs[0])) {
        id = root.inputs[1];
      } else {
        id = without_factor(id);
      }
    }
    return id;
  }

  bool is_shared(ValueId id) const { return !node(id).type.domain.has_instances(); }

  // The value divided by some positive constant, where it has one as a factor: down through homogeneous ops, then up
  // again in the order of the nodes. No recursion: a program may be one chain of thousands.
  ValueId without_factor(ValueId root) {
    std::vector<ValueId> reached{root};
    std::set<ValueId> seen{root};
    for (std::size_t i = 0; i < reached.size(); ++i) {
      if (!node(reached[i]).op->homogeneous) continue;
      for (ValueId input : node(reached[i]).inputs)
        if (seen.insert(input).second) reached.push_back(input);
    }
    std::map<ValueId, ValueId> without;
    for (ValueId id : seen) {
      const Node old = node(id);
      ValueId& out = without[id] = id;
      if (!old.op->homogeneous) continue;
      if (old.op->arity == 2 && is_positive_constant(old.inputs[1])) {
        out = without.at(old.inputs[0]);
        continue;
      }
      std::vector<ValueId> inputs;
      for (ValueId input : old.inputs) inputs.push_back(without.at(input));
      const OpDef& op = old.op->up_to_scale.empty() ? *old.op : op_named(old.op->up_to_scale);
      if (&op != old.op || inputs != old.inputs) out = make(op, inputs, old.attributes, old.location);
    }
    return without.at(root);
  }

  // The live part, depth first from the roots; summaries ordered by what they hold.
  Program emit() {
    std::vector<bool> live(built_.nodes.size(), false);
    for (const RootDef& root : all_roots())
      if (built_.*root.value >= 0) live[static_cast<std::size_t>(built_.*root.value)] = true;
    std::vector<bool> carried(built_.states.size(), false);
    for (bool more = true; more;) {  // what a state is set to that is read lives too
      for (std::size_t id = live.size(); id-- > 0;) {
        if (!live[id]) continue;
        for (ValueId input : built_.nodes[id].inputs) live[static_cast<std::size_t>(input)] = true;
      }
      more = false;
      for (std::size_t s = 0; s < carried.size(); ++s) {
        if (carried[s] || !is_read(built_.states[s].name, live)) continue;
        more = carried[s] = true;
        live[static_cast<std::size_t>(built_.states[s].value)] = true;
      }
    }
    std::vector<Summary> summaries;
    for (const Summary& summary : built_.summaries)
      for (std::size_t id = 0; id < live.size(); ++id)
        if (live[id] && built_.nodes[id].op->name == "summary" &&
            text_of(built_.nodes[id].attributes, "name") == summary.name) {
          summaries.push_back(summary);
          break;
        }
    auto hash = [&](const Summary& summary) { return hashes_[static_cast<std::size_t>(summary.value)]; };
    std::sort(summaries.begin(), summaries.end(),
              [&](const Summary& a, const Summary& b) { return hash(a) < hash(b); });

    Program out;
    out.name = source_.name;
    out.doc = source_.doc;
    out.config = source_.config;
    out.weights = source_.weights;
    std::vector<ValueId> emitted(built_.nodes.size(), -1);
    for (const Summary& summary : summaries) {
      ValueId value = emit_node(summary.value, out, emitted);
      declare_summary(out, summary.name, value, node(summary.value).location);
    }
    for (const RootDef& root : all_roots())
      if (built_.*root.value >= 0) out.*root.value = emit_node(built_.*root.value, out, emitted);
    std::vector<State> states;  // declared when all that read them are there
    for (std::size_t s = 0; s < carried.size(); ++s)
      if (carried[s]) states.push_back({built_.states[s].name, emit_node(built_.states[s].value, out, emitted)});
    for (const State& state : states) declare_state(out, state.name, state.value, out.node(state.value).location);
    if (parameters_of(out).empty()) out.weights = {};
    return out;
  }

  bool is_read(const std::string& state, const std::vector<bool>& live) const {
    for (std::size_t id = 0; id < live.size(); ++id)
      if (live[id] && is_state(built_.nodes[id]) && text_of(built_.nodes[id].attributes, "name") == state) return true;
    return false;
  }

  // Operands first, from left to right, each node once.
  ValueId emit_node(ValueId root, Program& out, std::vector<ValueId>& emitted) const {
    std::vector<ValueId> stack{root};
    while (!stack.empty()) {
      ValueId id = stack.back();
      ValueId& done = emitted[static_cast<std::size_t>(id)];
      const Node& old = node(id);
      std::vector<ValueId> inputs;
      std::size_t waiting = stack.size();
      for (std::size_t i = old.inputs.size(); i-- > 0;)
        if (emitted[static_cast<std::size_t>(old.inputs[i])] < 0) stack.push_back(old.inputs[i]);
      if (stack.size() > waiting) continue;
      stack.pop_back();
      if (done >= 0) continue;
      for (ValueId input : old.inputs) inputs.push_back(emitted[static_cast<std::size_t>(input)]);
      done = append(out, *old.op, std::move(inputs), old.attributes, old.location);
    }
    return emitted[static_cast<std::size_t>(root)];
  }

  const Program& source_;
  const Colours& colours_;
  Program built_;
  std::vector<std::uint64_t> hashes_;  // of built_.nodes: structure only
  std::map<std::tuple<const OpDef*, std::vector<ValueId>, Attributes>, ValueId> known_;
  std::vector<ValueId> renamed_;  // source node → built node
};

}  // namespace

namespace {

// States of one colour are set to equal values in every step: once as many rounds have passed as there are states that
// count, no colour can part any more.
Colours colours_of(const Program& program) {
  Colours colours;
  for (const Node& node : program.nodes)
    if (is_state(node)) colours[text_of(node.attributes, "name")] = 0;
  if (colours.empty()) return colours;
  for (std::size_t round = 0, rounds = 1; round < rounds; ++round) {
    Canonicalizer canonicalizer(program, colours);
    rounds = canonicalizer.run().states.size();
    Colours finer = colours;
    for (auto& [name, colour] : finer) {
      Hash hash;
      hash.add(colour);
      hash.add(canonicalizer.hash_of_state(name));
      colour = hash.value();
    }
    colours = std::move(finer);
  }
  return colours;
}

}  // namespace

Program canonicalize(const Program& program) {
  const Colours colours = colours_of(program);
  Program out = Canonicalizer(program, colours).run();
  for (const LayerFlow& other : program.others)
    out.others.push_back({other.layers, std::make_shared<const Program>(canonicalize(*other.flow))});
  return out;
}

std::string canonical_hash(const Program& program) {
  const Colours colours = colours_of(program);
  Canonicalizer canonicalizer(program, colours);
  const Program emitted = canonicalizer.run();
  Hash hash;
  hash.add(static_cast<std::uint64_t>(kIrVersion));
  hash.add(canonicalizer.hash_of_roots(emitted));
  hash.add(program.config.print());
  if (!parameters_of(emitted).empty()) hash.add(program.weights.digest);
  for (const LayerFlow& other : program.others) {
    hash.add(print_layers(other.layers));
    hash.add(canonical_hash(*other.flow));
  }
  return hash.hex();
}

}  // namespace vortex::ir
