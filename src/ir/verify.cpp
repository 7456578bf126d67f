// The verifier: every rule a program must keep, whoever wrote it. Each rejection names the line of the flow.
#include <vortex/error.h>

#include <algorithm>
#include <map>
#include <optional>

#include "base/text.h"
#include "ir/op.h"
#include "ir/rows.h"

namespace vortex::ir {

namespace {

class Verifier {
 public:
  explicit Verifier(const Program& program) : program_(program) {}

  void run() {
    check_name();
    program_.config.validate(concat("flow ", program_.name));
    check_nodes();
    check_phases();
    check_summaries();
    check_states();
    check_score();
    check_selection();
    check_rest();
    check_budget();
    check_others();
    check_weights();
    check_amounts();
  }

 private:
  [[noreturn]] void fail(ValueId id, const std::string& required, const std::string& came,
                         const std::string& todo) const {
    throw UserError(id >= 0 ? print(program_.node(id).location, program_) : concat("flow ", program_.name), required,
                    came, todo);
  }

  // Names stand in messages, logs and the heads of generated sources: one line, nothing else.
  void check_name() const {
    const std::string& name = program_.name;
    const bool one_line = std::none_of(name.begin(), name.end(),
                                       [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
    if (name.size() <= kMaxName && one_line) return;
    throw UserError("flow", concat("the name of a flow is one line of at most ", kMaxName, " bytes"),
                    one_line ? concat(name.size(), " bytes") : "control characters in it", "choose another name");
  }

  // Builds the program anew through append, which checks and infers each node, and compares.
  void check_nodes() const {
    if (program_.nodes.size() > kMaxNodes)
      fail(-1, concat("a flow has at most ", kMaxNodes, " values"), concat(program_.nodes.size()), "simplify the flow");
    Program again;
    again.name = program_.name;
    std::size_t declared = 0;
    for (std::size_t id = 0; id < program_.nodes.size(); ++id) {
      const Node& node = program_.nodes[id];
      if (node.op == nullptr)
        fail(static_cast<ValueId>(id), "every value must have an op", "none", "build programs with append");
      append(again, *node.op, node.inputs, node.attributes, node.location);
      if (again.nodes[id].attributes != node.attributes || !(again.nodes[id].type == node.type))
        fail(static_cast<ValueId>(id), concat("%", id, " must be of type ", print(again.nodes[id].type)),
             print(node.type), "leave types to inference");
      for (; declared < program_.summaries.size() && program_.summaries[declared].value <= static_cast<ValueId>(id);
           ++declared)
        declare_summary(again, program_.summaries[declared].name, program_.summaries[declared].value, node.location);
    }
    for (const State& state : program_.states)
      declare_state(again, state.name, state.value,
                    state.value >= 0 && static_cast<std::size_t>(state.value) < program_.nodes.size()
                        ? program_.node(state.value).location
                        : SourceLocation{});
    if (declared < program_.summaries.size())
      fail(-1, "a summary must be a value of the flow", concat("%", program_.summaries[declared].value),
           "define it first");
  }

  // The phase of each value, from what it is made of.
  void check_phases() {
    for (std::size_t id = 0; id < program_.nodes.size(); ++id) {
      const Node& node = program_.nodes[id];
      Phase phase = node.op->phase;
      ValueId because = static_cast<ValueId>(id);
      if (axis_of(node) == "page") phase = Phase::score;
      for (ValueId input : node.inputs) {
        Phase other = phases_[static_cast<std::size_t>(input)];
        if (other == Phase::any) continue;
        ValueId reason = reasons_[static_cast<std::size_t>(input)];
        if (phase == Phase::any) {
          phase = other;
          because = reason;
        } else if (phase != other) {
          ValueId k = phase == Phase::summarize ? because : reason, q = phase == Phase::summarize ? reason : because;
          fail_phases(static_cast<ValueId>(id), k, q);
        }
      }
      phases_.push_back(phase);
      reasons_.push_back(because);
    }
  }

  std::string used(ValueId id) const {
    const Node& node = program_.node(id);
    return axis_of(node) == "page" ? concat(node.op->name, " over \"page\"") : spoken(node);
  }

  // "page.lo", and "page.group(8).lo" for the summary "group8_lo" of groups.
  static std::string spoken_summary(const std::string& name, const Domain& domain) {
    const std::string prefix = concat("group", domain.pages, "_");
    if (domain.pages > 1 && name.starts_with(prefix))
      return concat("page.group(", domain.pages, ").", name.substr(prefix.size()));
    return concat("page.", name);
  }

  static std::string spoken(const Node& node) {
    const std::string& name = node.op->name;
    if (name == "summary") return spoken_summary(text_of(node.attributes, "name"), node.type.domain);
    if (is_state(node))
      return concat(name == "page_state" ? "page" : "seq", ".keep(\"", text_of(node.attributes, "name"), "\")");
    if (name.starts_with("group_"))
      return concat("page.group(", integer_of(node.attributes, "size"), ").", name.substr(6));
    for (const char* owner : {"page", "seq", "layer"})
      if (name.starts_with(concat(owner, "_"))) return concat(owner, ".", name.substr(std::string(owner).size() + 1));
    return name;
  }

  [[noreturn]] void fail_phases(ValueId id, ValueId of_summarize, ValueId of_score) const {
    if (axis_of(program_.node(of_score)) == "page") {
      fail(id, "summarize sees one page, so there is no axis \"page\"",
           concat(used(of_score), " of a value made from ", used(of_summarize)), "work over \"page\" in score");
    }
    fail(id, concat(used(of_summarize), " exists in summarize, ", used(of_score), " in score"),
         "one value made of both", "store what score needs of the page as a summary: page.name = ...");
  }

  void check_summaries() const {
    std::vector<bool> read(program_.summaries.size(), false);
    std::vector<bool> live = reachable(roots());
    for (std::size_t id = 0; id < program_.nodes.size(); ++id) {
      const Node& node = program_.nodes[id];
      if (node.op->name != "summary" || !live[id]) continue;
      for (std::size_t i = 0; i < read.size(); ++i)
        if (program_.summaries[i].name == text_of(node.attributes, "name")) read[i] = true;
    }
    for (std::size_t i = 0; i < program_.summaries.size(); ++i) {
      const Summary& summary = program_.summaries[i];
      Phase phase = phases_[static_cast<std::size_t>(summary.value)];
      std::string name = spoken_summary(summary.name, program_.node(summary.value).type.domain);
      if (phase == Phase::score) {
        fail(summary.value, concat(name, " must be made from page.k and page.v"),
             concat("it depends on ", used(reasons_[static_cast<std::size_t>(summary.value)])), "use that in score");
      }
      if (phase != Phase::summarize)
        fail(summary.value, concat(name, " must be made from page.k or page.v"),
             "a value that is the same for all pages", "write it in score");
      if (program_.node(summary.value).type.domain.kind == Domain::Kind::in_set)
        fail(summary.value, concat(name, " must be of every page"), print(program_.node(summary.value).type),
             "confine it in score");
      if (program_.node(summary.value).type.dtype == DType::set)
        fail(summary.value, concat(name, " must be numbers"), "a set of pages", "use where(set, 1, 0)");
      if (!read[i])
        fail(summary.value, concat("every summary must be read by score: it costs memory on each page"),
             concat(name, ", which score never uses"), concat("use ", name, " in score, or delete it"));
    }
  }

  // A state is one of those that what is chosen depends on, by way of other states or not; each is set and is no
  // summary.
  void check_states() const {
    for (std::size_t id = 0; id < program_.nodes.size(); ++id) {
      const Node& node = program_.nodes[id];
      if (!is_state(node)) continue;
      const std::string& name = text_of(node.attributes, "name");
      if (std::none_of(program_.states.begin(), program_.states.end(),
                       [&](const State& state) { return state.name == name; }))
        fail(static_cast<ValueId>(id), concat("the state \"", name, "\" is set in every step"),
             "a state that is never set", "say what it is in the next step: its .set(value)");
    }
    if (program_.states.empty()) return;
    if (program_.config.refresh_every > 1)
      fail(program_.states[0].value, "state advances at every decode step",
           concat("refresh_every ", program_.config.refresh_every), "leave one of them out");
    const std::vector<bool> live = reachable(roots());
    for (const State& state : program_.states) {
      if (phases_[static_cast<std::size_t>(state.value)] == Phase::summarize)
        fail(state.value, concat("the state \"", state.name, "\" advances while pages are scored"),
             concat("it is set to a value made from ", used(reasons_[static_cast<std::size_t>(state.value)])),
             "store what it needs of the page as a summary");
      bool read = false;
      for (std::size_t id = 0; id < live.size(); ++id)
        read = read || (live[id] && is_state(program_.nodes[id]) &&
                        text_of(program_.nodes[id].attributes, "name") == state.name);
      if (!read)
        fail(state.value, "every state must be used by score or select: it costs memory and time in every step",
             concat("\"", state.name, "\", which neither uses"), "use it, or delete it");
    }
  }

  // Those of the states too: what a state that is used is set to.
  std::vector<ValueId> roots() const {
    std::vector<ValueId> out;
    for (const RootDef& root : all_roots()) out.push_back(program_.*root.value);
    std::vector<bool> seen(program_.states.size(), false);
    for (bool more = true; more;) {
      more = false;
      const std::vector<bool> live = reachable(out);
      for (std::size_t s = 0; s < seen.size(); ++s) {
        if (seen[s]) continue;
        for (std::size_t id = 0; id < live.size() && !seen[s]; ++id)
          seen[s] = live[id] && is_state(program_.nodes[id]) &&
                    text_of(program_.nodes[id].attributes, "name") == program_.states[s].name;
        if (!seen[s]) continue;
        out.push_back(program_.states[s].value);
        more = true;
      }
    }
    return out;
  }

  std::vector<bool> reachable(const std::vector<ValueId>& roots) const {
    std::vector<bool> live(program_.nodes.size(), false);
    for (ValueId root : roots)
      if (root >= 0 && static_cast<std::size_t>(root) < live.size()) live[static_cast<std::size_t>(root)] = true;
    for (std::size_t id = live.size(); id-- > 0;)
      if (live[id])
        for (ValueId input : program_.nodes[id].inputs) live[static_cast<std::size_t>(input)] = true;
    return live;
  }

  void check_score() const {
    if (program_.score < 0) return;
    if (static_cast<std::size_t>(program_.score) >= program_.nodes.size())
      fail(-1, "the score must be a value of the flow", concat("%", program_.score), "define it first");
    const Type& type = program_.node(program_.score).type;
    if (phases_[static_cast<std::size_t>(program_.score)] == Phase::summarize) {
      fail(program_.score, "score must be made from q, summaries and page.index",
           concat("it depends on ", used(reasons_[static_cast<std::size_t>(program_.score)])),
           "score runs every step and does not read whole pages; store what it needs as a summary in summarize");
    }
    if (type.dtype == DType::set)
      fail(program_.score, "score must be one number a page, f32[] @page", concat("a set of pages, ", print(type)),
           "choose pages in select: def select(self, score): return vx.top_k(score, 16)");
    if (!type.axes.empty()) {
      std::string name = type.axes[0].name;
      fail(program_.score, "score must be one number a page, f32[] @page", print(type),
           concat("reduce the axis \"", name, "\", say with .sum(\"", name, "\")"));
    }
    if (type.domain.has_instances() && type.domain.pages > 1)
      fail(program_.score, "score must be one number a page, f32[] @page", print(type),
           "let select choose groups and say their pages: vx.top_k(score, 8).pages()");
    if (!type.domain.has_instances()) {
      fail(program_.score, "score must be one number a page, f32[] @page",
           concat(print(type), ", the same for all pages"), "make it from a summary or from page.index");
    }
    if (!budget_in_numbers(program_.config) && program_.budget < 0)
      fail(-1, "a flow that scores pages must have a budget", "budget 0 and budget_ratio 0",
           "set budget (pages a row) or budget_ratio (share of the pages)");
  }

  // A root that is made while rows are scored.
  const Type& root_type(ValueId root, const char* name) const {
    if (static_cast<std::size_t>(root) >= program_.nodes.size())
      fail(-1, concat("the ", name, " must be a value of the flow"), concat("%", root), "define it first");
    if (phases_[static_cast<std::size_t>(root)] == Phase::summarize)
      fail(root, concat(name, " is made from q, summaries and page.index"),
           concat("it depends on ", used(reasons_[static_cast<std::size_t>(root)])),
           "store what it needs as a summary in summarize");
    return program_.node(root).type;
  }

  void check_selection() const {
    if (program_.selection < 0) return;
    if (program_.score >= 0)
      fail(program_.selection, "a flow ends in a score or in a set of pages", "both", "let select use the score");
    const Type& type = root_type(program_.selection, "select");
    if (type.dtype != DType::set)
      fail(program_.selection, "select must return a set of pages", print(type),
           "make one of it: top_k(x, k), top_p(x, p) or threshold(x, t)");
    if (type.domain.kind != Domain::Kind::page)
      fail(program_.selection, "select must return a set of pages, set[] @page", print(type),
           type.domain.pages > 1 ? "say which pages: groups.pages()" : "return the set itself");
    if (budget_in_numbers(program_.config) || program_.budget >= 0) return;
    const std::vector<bool> live = reachable({program_.selection});
    for (std::size_t id = 0; id < live.size(); ++id)
      if (live[id] && program_.nodes[id].op->name == "seq_left")
        fail(static_cast<ValueId>(id), "seq.left, and top_k without a number, are what a budget leaves",
             "budget 0 and budget_ratio 0", "set budget or budget_ratio, or say how many: top_k(x, 16)");
  }

  void check_rest() const {
    if (program_.rest_logit < 0 && program_.rest_value < 0) return;
    if (program_.rest_logit < 0 || program_.rest_value < 0)
      fail(-1, "the rest is a logit and a value", "one of them", "give both");
    if (!program_.chooses())
      fail(program_.rest_logit, "the rest is what pages contribute that are not chosen", "a flow that chooses none",
           "give it a score");
    const FlowConfig& config = program_.config;
    if (config.reuses() || config.refresh_every > 1)
      fail(program_.rest_logit, "the rest is made of the scores of each layer and step",
           config.reuses() ? "reuse" : concat("refresh_every ", config.refresh_every), "leave one of them out");
    const Type &logit = root_type(program_.rest_logit, "rest"), &value = root_type(program_.rest_value, "rest");
    const bool row = logit.domain.kind == Domain::Kind::row;  // of a compiled program
    auto axes = [](const Type& type, std::vector<std::string> names) {
      return type.dtype == DType::f32 && type.axes.size() == names.size() &&
             std::equal(names.begin(), names.end(), type.axes.begin(),
                        [](const std::string& name, const Axis& axis) { return axis.name == name; });
    };
    if (!axes(logit, {"head"}) || (!row && logit.domain.kind != Domain::Kind::page))
      fail(program_.rest_logit, "the logit of the rest is f32[head] @page", print(logit),
           "say vx.dot(q, page.mean, over=\"dim\")");
    if (!axes(value, row ? std::vector<std::string>{"head", "dim"} : std::vector<std::string>{"dim"}) ||
        value.domain.kind != logit.domain.kind)
      fail(program_.rest_value, "the value of the rest is f32[dim] @page", print(value),
           "say page.value, made in summarize as page.v.mean(\"token\")");
  }

  void check_others() const {
    const FlowConfig& config = program_.config;
    for (const LayerFlow& other : program_.others) {
      verify(*other.flow);
      const FlowConfig& own = other.flow->config;
      const std::string layers = concat("the flow of layers ", print_layers(other.layers), ", ", other.flow->name);
      if (own.page_size != config.page_size)
        fail(-1, concat("pages of one size in all layers, ", config.page_size, " tokens"),
             concat(layers, ", with page_size ", own.page_size), "give them one page_size");
      if (!own.full_attention_layers.empty() || own.reuses() || own.refresh_every > 1)
        fail(-1, "full_attention_layers, reuse and refresh_every are said once for all layers",
             concat(layers, ", with ", own.print()), "say them in the flow that has `layers`");
      for (std::int64_t layer : other.layers)
        if (config.is_full(layer) || config.source_of(layer) != layer)
          fail(-1, "a layer has a flow, or attends everything, or takes the set of another",
               concat("layer ", layer, " of ", other.flow->name, ", named by ",
                      config.is_full(layer) ? "full_attention_layers" : "reuse"),
               "leave one out");
      if (config.refresh_every > 1 && !other.flow->states.empty())
        fail(-1, "state advances at every decode step", concat(layers, ", beside refresh_every ", config.refresh_every),
             "leave one of them out");
      if ((config.reuses() || config.refresh_every > 1) && other.flow->rest_logit >= 0)
        fail(-1, "the rest is made of the scores of each layer and step",
             concat(layers, ", beside ", config.reuses() ? "reuse" : "refresh_every"), "leave one of them out");
    }
  }

  // Values that are written as numbers, or computed from such.
  std::vector<std::optional<double>> constants() const {
    std::vector<std::optional<double>> numbers;
    for (const Node& node : program_.nodes) {
      std::optional<double>& value = numbers.emplace_back();
      std::vector<double> operands;
      for (ValueId input : node.inputs)
        if (const auto& operand = numbers[static_cast<std::size_t>(input)]) operands.push_back(*operand);
      if (node.op->name == "constant") value = number_of(node.attributes, "value");
      if (node.op->scalar != nullptr && operands.size() == node.inputs.size())
        value = node.op->scalar(operands, node.attributes);
    }
    return numbers;
  }

  // A set of no pages at all is a slip, and so is a budget below zero.
  void check_amounts() const {
    const std::vector<std::optional<double>> numbers = constants();
    for (std::size_t id = 0; id < program_.nodes.size(); ++id) {
      const Node& node = program_.nodes[id];
      if (node.op->amount == Amount::any) continue;
      const std::optional<double>& amount = numbers[static_cast<std::size_t>(node.inputs[1])];
      if (!amount) continue;
      if (node.op->amount == Amount::pages && !(*amount >= 1))
        fail(static_cast<ValueId>(id), concat(node.op->name, " takes at least 1 page"), print_number(*amount),
             "say how many pages, or leave the set out");
      if (node.op->amount == Amount::share && !(*amount > 0 && *amount <= 1))
        fail(static_cast<ValueId>(id), concat(node.op->name, " takes a share above 0 and up to 1"),
             print_number(*amount), "say 0.9, for example");
    }
    if (program_.budget < 0) return;
    if (const auto& budget = numbers[static_cast<std::size_t>(program_.budget)]; budget && *budget < 0)
      fail(program_.budget, "budget is a number of pages, 0 or more", print_number(*budget),
           "say how many pages a row attends");
  }

  // The file that a flow names lies beside it, wherever that is.
  void check_weights() const {
    const std::string &file = program_.weights.file, &digest = program_.weights.digest;
    const bool plain = std::none_of(
        file.begin(), file.end(), [](char c) { return c == '/' || c == '\\' || static_cast<unsigned char>(c) < 0x20; });
    if (!plain || file.size() > kMaxName || file.starts_with("."))
      fail(-1, "weights name a file beside the flow, without a folder", concat('"', file.substr(0, 80), '"'),
           "lay the file beside the flow, or give it as a setting: weights=PATH");
    const bool hex = std::all_of(digest.begin(), digest.end(),
                                 [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
    if (!hex || (!digest.empty() && digest.size() != 16))
      fail(-1, "the digest of weights is 16 hexadecimal digits", concat('"', digest.substr(0, 80), '"'),
           "attach the weights");
    for (const LayerFlow& other : program_.others)
      if (other.flow->weights.tensors == nullptr && program_.weights.tensors != nullptr &&
          !parameters_of(*other.flow).empty())
        fail(-1, "weights for the flows of all layers", concat("none for ", other.flow->name), "attach them to it");
  }

  // A budget is known before any row is scored: numbers of the sequence and the layer, nothing of q or of pages.
  void check_budget() const {
    if (program_.budget < 0) return;
    if (static_cast<std::size_t>(program_.budget) >= program_.nodes.size())
      fail(-1, "the budget must be a value of the flow", concat("%", program_.budget), "define it first");
    const std::vector<bool> live = reachable({program_.budget});
    for (std::size_t id = 0; id < live.size(); ++id) {
      const Node& node = program_.nodes[id];
      if (!live[id] || node.op->kind != OpKind::source || node.op->of_sequence) continue;
      fail(program_.budget, "budget is known before a row is scored: it is made from seq, layer and numbers",
           concat("it depends on ", spoken(node)), "leave that to score");
    }
  }

  const Program& program_;
  std::vector<Phase> phases_;
  std::vector<ValueId> reasons_;  // the node that decided the phase
};

}  // namespace

void verify(const Program& program) {
  Verifier(program).run();
  // The page size is known before the model is.
  for (const Node& node : program.nodes) {
    for (const Axis& axis : node.type.axes) {
      if (axis.extent.symbol != Extent::Symbol::token) continue;
      if (!bind(axis.extent, {.page_size = program.config.page_size}))
        throw UserError(print(node.location, program),
                        concat("page_size must make ", print(axis.extent), " a whole number"),
                        concat("page_size ", program.config.page_size), "choose another page_size or another split");
    }
  }
}

namespace {

// Channels of keys and of values meet in one axis on models where they are as many.
void require_one_size(const Program& program, const Node& node, const Geometry& geometry) {
  std::map<std::string, std::int64_t> sizes;
  for (ValueId input : node.inputs) {
    for (const Axis& axis : program.node(input).type.axes) {
      const std::int64_t size = bind(axis.extent, geometry).value_or(0);
      const auto [seen, fresh] = sizes.try_emplace(axis.name, size);
      if (fresh || seen->second == size) continue;
      throw UserError(print(node.location, program),
                      concat("the axis \"", axis.name, "\" must have one size in all operands on this model"),
                      concat(seen->second, " and ", size, ": keys and values differ"),
                      "keep channels of keys and of values apart, or slice both to one run");
    }
  }
}

}  // namespace

void verify(const Program& program, const Geometry& geometry) {
  for (const LayerFlow& other : program.others) verify(*other.flow, geometry);
  auto shape_of = [&](const Node& node) {
    std::vector<std::int64_t> shape;
    std::int64_t elements = 1;
    for (const Axis& axis : node.type.axes) {
      std::optional<std::int64_t> size = bind(axis.extent, geometry);
      if (!size) {
        throw UserError(print(node.location, program),
                        concat("the size of \"", axis.name, "\", ", print(axis.extent), ", must be whole"),
                        concat("page_size ", geometry.page_size, ", head_dim ", geometry.head_dim,
                               geometry.value_dim > 0 ? concat(", value_dim ", geometry.value_dim) : "", ", ",
                               geometry.group, " heads a row"),
                        "this flow does not fit this model; choose another split");
      }
      shape.push_back(*size);
      elements = std::min(elements * *size, kMaxElements + 1);
    }
    if (elements > kMaxElements)
      throw UserError(print(node.location, program),
                      concat("a value has at most ", kMaxElements, " elements a page or row"), print(node.type),
                      "contract or reduce axes before they multiply");
    return shape;
  };
  if (program.rest_value >= 0) {
    const Node& rest = program.node(program.rest_value);
    if (const std::int64_t size = shape_of(rest).back(); size != geometry.value_channels())
      throw UserError(print(rest.location, program),
                      concat("the value of the rest has the ", geometry.value_channels(), " channels of page.v"),
                      concat(size, " channels"), "make it from page.v");
  }
  for (const Node& node : program.nodes) {
    std::vector<std::int64_t> last = shape_of(node);
    require_one_size(program, node, geometry);
    if (node.op->move == nullptr) continue;
    const Node& input = program.node(node.inputs[0]);
    std::vector<std::int64_t> input_shape = shape_of(input), read(input_shape.size());
    const std::vector<std::int64_t> shape = last;
    for (std::int64_t& index : last) --index;
    node.op->move({input.type, node.type, input_shape, shape, node.attributes}, last, read);
    for (std::size_t i = 0; i < read.size(); ++i) {
      if (read[i] < input_shape[i]) continue;
      throw UserError(print(node.location, program),
                      concat(node.op->name, " must stay inside the axis \"", input.type.axes[i].name, "\""),
                      concat("element ", read[i], " of ", input_shape[i]),
                      "this flow does not fit this model; choose a shorter run");
    }
  }
}

}  // namespace vortex::ir
