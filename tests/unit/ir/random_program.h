// Random programs: well-typed, every op of the table, small sizes. The same seed gives the same program; smaller `size`
// gives a smaller one, so tests that try sizes in ascending order report a small failure first.
#pragma once

#include <vortex/error.h>

#include <algorithm>
#include <cstdlib>
#include <random>

#include "base/text.h"
#include "ir/interpret.h"

namespace vortex::ir {

inline constexpr Geometry kSmall{.page_size = 4, .head_dim = 4, .group = 2};

// Programs first … first + count − 1 of a run of `of`: the larger the number in its run, the larger the program.
struct Seeds {
  int first = 0, count = 0, of = 0;
};
inline void PrintTo(const Seeds& seeds, std::ostream* out) {
  *out << "programs " << seeds.first << " to " << seeds.first + seeds.count - 1 << " of " << seeds.of;
}

// The long run makes VORTEX_RANDOM_PROGRAMS programs in parts, which GTEST_TOTAL_SHARDS spreads over processes; without
// the variable it is left out.
inline std::vector<Seeds> long_run(int part = 1000) {
  const char* text = std::getenv("VORTEX_RANDOM_PROGRAMS");
  const int count = text == nullptr ? 0 : std::atoi(text);
  std::vector<Seeds> out;
  for (std::int64_t first = 0; first < count; first += part)
    out.push_back({static_cast<int>(first), std::min(part, count - static_cast<int>(first)), count});
  return out;
}

class RandomProgram {
 public:
  RandomProgram(std::uint64_t seed, int size, const Geometry& geometry = kSmall) : random_(seed), geometry_(geometry) {
    program_.name = concat("seed ", seed);
    program_.doc = "made at random: \"quotes\", \\ and\nlines";
    program_.config.page_size = geometry.page_size;
    program_.config.budget = pick(1, 9);
    program_.config.sinks = pick(0, 2);
    grow(Phase::summarize, size / 2);
    std::vector<ValueId> pages;
    for (std::size_t id = 0; id < program_.nodes.size(); ++id)
      if (program_.nodes[id].type.domain.has_instances() && !is_set(static_cast<ValueId>(id)))
        pages.push_back(static_cast<ValueId>(id));
    int summaries = static_cast<int>(pick(1, 3));
    for (int i = 0; i < summaries; ++i)
      declare_summary(program_, concat("s", i),
                      pages[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(pages.size()) - 1))], {});
    pool_.clear();
    grow(Phase::score, size);
    finish();
  }

  const Program& program() const { return program_; }

 private:
  std::int64_t pick(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random_);
  }

  // Appends a node if it fits the geometry; otherwise leaves the program as it was.
  ValueId attempt(const OpDef& op, std::vector<ValueId> inputs, Attributes attributes) {
    std::size_t before = program_.nodes.size();
    SourceLocation location{pick(0, 3) == 0 ? "helper.py" : "flow.py", static_cast<int>(before) + 1};
    try {
      append(program_, op, std::move(inputs), std::move(attributes), location);
      std::int64_t elements = 1;
      for (const Axis& axis : program_.nodes.back().type.axes)
        elements *= bind(axis.extent, geometry_).value_or(1 << 20);
      if (elements <= 512) verify(program_, geometry_);
      if (elements <= 512) return static_cast<ValueId>(before);
    } catch (const UserError&) {
    }
    program_.nodes.resize(before);
    return -1;
  }

  Attribute random_attribute(const AttributeDef& def, const std::vector<ValueId>& inputs, Phase phase) {
    static const double numbers[] = {-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 2.0, 3.0};
    static const char* const names[] = {"sub", "lane", "token", "dim"};
    switch (def.kind) {
      case AttributeKind::integer:
        return pick(0, 4);
      case AttributeKind::number:
        return numbers[pick(0, 7)];
      case AttributeKind::text:
        return std::string(names[pick(0, 3)]);
      case AttributeKind::axis:
        break;
    }
    const Type& type = program_.node(inputs[0]).type;
    if (type.axes.empty() || (phase == Phase::score && pick(0, 3) == 0))
      return std::string(phase == Phase::score ? "page" : "dim");
    return type.axes[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(type.axes.size()) - 1))].name;
  }

  void grow(Phase phase, int size) {
    for (const OpDef* op : all_ops()) {
      if (op->kind != OpKind::source || (op->phase != phase && op->phase != Phase::any)) continue;
      if (op->name == "summary") {
        for (const Summary& summary : program_.summaries) pool_.push_back(attempt(*op, {}, {{"name", summary.name}}));
      } else if (op->name == "page_state" || op->name == "seq_state") {
        static const char* const axes[] = {"", "", "head", "dim", "head, dim"};
        for (int i = 0; i < 2 && pick(0, 3) == 0; ++i)
          pool_.push_back(attempt(*op, {},
                                  {{"name", concat(op->name.substr(0, 1), i)},
                                   {"initial", random_attribute({.kind = AttributeKind::number}, {}, phase)},
                                   {"axes", std::string(axes[pick(0, 4)])}}));
      } else if (op->name == "param") {
        static const char* const axes[] = {"", "dim", "lane=3", "dim, lane=3"};
        for (int i = 0; i < 2 && pick(0, 3) == 0; ++i)
          pool_.push_back(attempt(*op, {}, {{"name", concat("w", i)}, {"axes", std::string(axes[pick(0, 3)])}}));
        std::erase(pool_, -1);
      } else {
        Attributes attributes;
        for (const AttributeDef& def : op->attributes) attributes[def.name] = random_attribute(def, {}, phase);
        if (ValueId id = attempt(*op, {}, attributes); id >= 0) pool_.push_back(id);  // a group may be too small
      }
    }
    std::span<const OpDef* const> ops = all_ops();
    for (int made = 0, tries = 0; made < size && tries < 50 * size; ++tries) {
      const OpDef& op = *ops[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(ops.size()) - 1))];
      if (op.kind == OpKind::source) continue;
      if (phase == Phase::summarize && (op.kind == OpKind::selection || op.phase == Phase::score)) continue;
      std::vector<ValueId> inputs;
      for (int i = 0; i < op.arity; ++i)
        inputs.push_back(pool_[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(pool_.size()) - 1))]);
      if (op.amount != Amount::any && is_known(inputs[1]))
        inputs[1] = attempt(op_named("constant"), {}, {{"value", op.amount == Amount::pages ? 2.0 : 0.5}});
      if (op.name == "confine")
        inputs[1] = lists_.empty()
                        ? inputs[0]
                        : lists_[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(lists_.size()) - 1))];
      Attributes attributes;
      for (const AttributeDef& def : op.attributes) attributes[def.name] = random_attribute(def, inputs, phase);
      ValueId id = attempt(op, inputs, attributes);
      if (id < 0) continue;
      if (op.kind == OpKind::list) {
        lists_.push_back(id);
        // What is of that set's pages, so that later values are confined to it.
        for (std::size_t i = 0, count = pool_.size(); i < count && made < size; i += 3)
          if (ValueId inside = attempt(op_named("confine"), {pool_[i], id}, {}); inside >= 0)
            pool_.push_back(inside), ++made;
      } else {
        pool_.push_back(id);
      }
      ++made;
    }
  }

  // A value of groups or of the pages of a set, as one of pages.
  ValueId on_pages(ValueId id) {
    while (program_.node(id).type.domain.has_instances() && program_.node(id).type.domain.kind != Domain::Kind::page)
      id = must("spread", {id}, {{"other", is_set(id) ? 1.0 : 0.25}});
    return id;
  }

  // A number of the flow and the page size alone: the verifier wants it to choose some pages.
  bool is_known(ValueId id) const {
    const Node& node = program_.node(id);
    if (node.op->kind == OpKind::source) return node.op->name == "constant" || node.op->name == "page_tokens";
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ValueId input) { return is_known(input); });
  }

  bool is_set(ValueId id) const { return program_.node(id).type.dtype == DType::set; }

  ValueId must(const char* op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return append(program_, op_named(op), std::move(inputs), std::move(attributes), {});
  }

  ValueId reduced(ValueId id) {
    static const char* const ops[] = {"sum", "mean", "max", "min", "norm"};
    while (!program_.node(id).type.axes.empty())
      id = must(ops[pick(0, 4)], {id}, {{"axis", program_.node(id).type.axes[0].name}});
    return id;
  }

  // A few ops around a value, with operands that are the same for all pages.
  ValueId wrapped(ValueId id) {
    std::span<const OpDef* const> ops = all_ops();
    for (std::int64_t left = pick(0, 4), tries = 0; left > 0 && tries < 100; ++tries) {
      const OpDef& op = *ops[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(ops.size()) - 1))];
      if (op.kind == OpKind::source || op.kind == OpKind::shape || op.arity > 2 || op.amount != Amount::any) continue;
      std::vector<ValueId> inputs{id};
      if (op.arity == 2) {
        ValueId shared =
            pick(0, 1) == 0
                ? must("constant", {}, {{"value", random_attribute({.kind = AttributeKind::number}, {}, Phase::score)}})
                : must("layer_index", {});
        inputs.insert(inputs.begin() + pick(0, 1), shared);
      }
      Attributes attributes;
      for (const AttributeDef& def : op.attributes) attributes[def.name] = random_attribute(def, {id}, Phase::score);
      ValueId next = attempt(op, inputs, attributes);
      if (next < 0 || is_set(next) || program_.node(next).type.domain.kind != Domain::Kind::page) continue;
      id = next;
      --left;
    }
    return id;
  }

  // One number a page that reads every summary, between ops that a top-k may or may not see.
  void finish() {
    ValueId score = on_pages(pool_.back());
    if (is_set(score)) score = must("where", {score, must("page_index", {}), must("constant", {}, {{"value", 0.5}})});
    for (std::size_t i = 0; i < program_.summaries.size(); ++i) {
      ValueId summary = on_pages(must("summary", {}, {{"name", program_.summaries[i].name}}));
      score = reduced(i == 0 && pick(0, 1) == 0 ? wrapped(summary) : must("add", {reduced(score), reduced(summary)}));
    }
    std::vector<ValueId> states;
    for (std::size_t id = 0; id < program_.nodes.size(); ++id)
      if (is_state(program_.nodes[id])) states.push_back(static_cast<ValueId>(id));
    for (ValueId state : states) {
      score = must("add", {score, reduced(state)});
      advance(text_of(program_.node(state).attributes, "name"), state);
    }
    attach();
    program_.score = reduced(wrapped(score));
    for (ValueId state : states) {  // wrapping may have left it behind a set, which nothing sees through to the value
      if (reaches_score(state)) continue;
      program_.score = must("add", {program_.score, reduced(state)});
    }
  }

  // Numbers for the parameters: for each of five layers and three KV heads, for each layer, or for all.
  void attach() {
    Parameters tensors;
    for (const Node* node : parameters_of(program_)) {
      Parameter tensor;
      const std::int64_t leading = pick(0, 2);
      if (leading > 0) tensor.shape.push_back(5);
      if (leading > 1) tensor.shape.push_back(3);
      const std::string& axes = text_of(node->attributes, "axes");
      if (axes.starts_with("dim")) tensor.shape.push_back(geometry_.head_dim);
      if (axes.ends_with("lane=3")) tensor.shape.push_back(3);
      std::int64_t elements = 1;
      for (std::int64_t size : tensor.shape) elements *= size;
      for (std::int64_t i = 0; i < elements; ++i) tensor.data.push_back(static_cast<float>(pick(-8, 8)) / 4.0f);
      tensors[text_of(node->attributes, "name")] = std::move(tensor);
    }
    if (!tensors.empty()) program_ = attach_weights(std::move(program_), tensors);
  }

  // Some value that fits becomes the state of the next step; at worst what it is now.
  void advance(const std::string& name, ValueId state) {
    for (int tries = 0; tries < 20; ++tries) {
      const ValueId value = pool_[static_cast<std::size_t>(pick(0, static_cast<std::int64_t>(pool_.size()) - 1))];
      try {
        declare_state(program_, name, value, {});
        return;
      } catch (const UserError&) {
      }
    }
    declare_state(program_, name, state, {});
  }

  bool reaches_score(ValueId from) const {
    std::vector<bool> reached(program_.nodes.size(), false);
    reached[static_cast<std::size_t>(from)] = true;
    for (std::size_t id = static_cast<std::size_t>(from) + 1; id < reached.size(); ++id)
      for (ValueId input : program_.nodes[id].inputs)
        reached[id] = reached[id] || reached[static_cast<std::size_t>(input)];
    return reached[static_cast<std::size_t>(program_.score)];
  }

  std::mt19937_64 random_;
  Geometry geometry_;
  Program program_;
  std::vector<ValueId> pool_, lists_;  // values to build on; lists of sets
};

// Inputs of an interpreter run on the small geometry.
struct RandomInputs {
  static constexpr std::int64_t kPages = 6, kFirst = 1;  // candidates, of ten full pages
  Environment environment{
      .geometry = kSmall, .tokens = 40, .step = 3, .layer = 2, .layers = 5, .scale = 0.5, .kv_head = 1};
  Tensor q;
  std::vector<Tensor> k, v;

  explicit RandomInputs(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    auto fill = [&](std::int64_t rows) {
      Tensor out{{rows, kSmall.head_dim}, std::vector<double>(static_cast<std::size_t>(rows * kSmall.head_dim))};
      for (double& value : out.data) value = normal(random);
      return out;
    };
    q = fill(kSmall.group);
    for (std::int64_t page = 0; page < environment.tokens / kSmall.page_size; ++page) {
      k.push_back(fill(kSmall.page_size));
      v.push_back(fill(kSmall.page_size));
    }
  }

  // Tokens of `pages` pages from one on.
  static Tensor joined(const std::vector<Tensor>& of, std::int64_t first, std::int64_t pages) {
    Tensor out{{pages * kSmall.page_size, kSmall.head_dim}, {}};
    for (std::int64_t page = first; page < first + pages; ++page) {
      const std::vector<double>& data = of[static_cast<std::size_t>(page)].data;
      out.data.insert(out.data.end(), data.begin(), data.end());
    }
    return out;
  }

  std::vector<double> scores(const Program& program) const {
    std::map<std::string, Tensor> summaries;
    std::vector<std::int64_t> indices;
    for (std::int64_t page = kFirst; page < kFirst + kPages; ++page) indices.push_back(page);
    std::vector<std::int64_t> sizes;  // pages of what is summarized
    for (const Summary& summary : program.summaries) sizes.push_back(program.node(summary.value).type.domain.pages);
    std::sort(sizes.begin(), sizes.end());
    sizes.erase(std::unique(sizes.begin(), sizes.end()), sizes.end());
    for (std::int64_t pages : sizes) {
      const GroupRange range = pages == 1 ? GroupRange{kFirst, kPages}
                                          : groups_of(pages, kFirst, kPages, static_cast<std::int64_t>(k.size()));
      for (std::int64_t at = range.first; at < range.first + range.count; ++at) {
        const Tensor keys = joined(k, at * pages, pages), values = joined(v, at * pages, pages);
        for (auto& [name, tensor] : interpret_summaries(program, environment, keys, values, pages)) {
          Tensor& all = summaries[name];
          all.shape = tensor.shape;
          all.shape.insert(all.shape.begin(), range.count);
          all.data.insert(all.data.end(), tensor.data.begin(), tensor.data.end());
        }
      }
    }
    return interpret_scores(program, environment, q, summaries, indices);
  }
};

// A hash of a computed number has no bound at all, and whether two numbers are equal hangs on the last bit of a
// computed one.
inline bool hangs_on_last_bits(const Program& program) {
  for (const Node& node : program.nodes)
    for (ValueId input : node.inputs)
      if ((node.op->name == "random" || node.op->name == "equal") && program.node(input).op->kind != OpKind::source)
        return true;
  return false;
}

}  // namespace vortex::ir
