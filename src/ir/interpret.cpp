// The interpreter: evaluates nodes one by one over dense double tensors. Written to be read; slow.
#include "ir/interpret.h"

#include <vortex/error.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/check.h"
#include "base/text.h"
#include "ir/ops/define.h"
#include "ir/rows.h"

namespace vortex::ir {

namespace {

std::int64_t elements(std::span<const std::int64_t> shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

// A value during evaluation: the names of its axes ("page" first for values of pages, of groups, and of the pages of a
// set) beside the tensor. The members of a set: its mask over all pages or groups.
struct Value {
  std::vector<std::string> names;
  Tensor tensor;
};

// The row-major index of an element, and stepping through all of them.
class Counter {
 public:
  explicit Counter(std::span<const std::int64_t> shape) : shape_(shape.begin(), shape.end()), index_(shape.size(), 0) {}
  std::span<const std::int64_t> index() const { return index_; }
  void next() {
    for (std::size_t i = index_.size(); i-- > 0;) {
      if (++index_[i] < shape_[i]) return;
      index_[i] = 0;
    }
  }

 private:
  std::vector<std::int64_t> shape_, index_;
};

// For each axis of `names`, the stride of `value` along it, 0 where `value` lacks the axis.
std::vector<std::int64_t> strides_along(const Value& value, const std::vector<std::string>& names) {
  std::vector<std::int64_t> strides(names.size(), 0);
  std::int64_t stride = 1;
  for (std::size_t i = value.names.size(); i-- > 0;) {
    for (std::size_t j = 0; j < names.size(); ++j)
      if (names[j] == value.names[i]) strides[j] = stride;
    stride *= value.tensor.shape[i];
  }
  return strides;
}

std::int64_t offset(std::span<const std::int64_t> index, const std::vector<std::int64_t>& strides) {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < index.size(); ++i) sum += index[i] * strides[i];
  return sum;
}

class Interpreter {
 public:
  // pages: candidates; summarize: the one page, or the one group, that is summarized.
  Interpreter(const Program& program, const SourceContext& context, std::int64_t pages)
      : program_(program),
        context_(context),
        pages_(pages),
        values_(program.nodes.size()),
        done_(program.nodes.size(), false) {}

  const Tensor& evaluate(ValueId root) {
    std::vector<bool> needed(program_.nodes.size(), false);
    needed[static_cast<std::size_t>(root)] = true;
    for (auto id = static_cast<std::size_t>(root) + 1; id-- > 0;)
      if (needed[id])
        for (ValueId input : program_.nodes[id].inputs) needed[static_cast<std::size_t>(input)] = true;
    for (std::size_t id = 0; id < needed.size(); ++id)
      if (needed[id] && !done_[id]) compute(id);
    return values_[static_cast<std::size_t>(root)].tensor;
  }

  const Type& type_of(ValueId id) const { return program_.node(id).type; }

 private:
  void compute(std::size_t id) {
    const Node& node = program_.nodes[id];
    Value& out = values_[id];
    done_[id] = true;
    out = {};
    if (node.op->kind == OpKind::list) {
      out = input(node, 0);
      return;
    }
    if (node.type.domain.has_instances()) {
      out.names.push_back("page");
      out.tensor.shape.push_back(instances(node.type.domain));
    }
    for (const Axis& axis : node.type.axes) {
      std::optional<std::int64_t> size = bind(axis.extent, context_.environment.geometry);
      VORTEX_CHECK(size.has_value(), "axis ", axis.name, " of ", print(node.type));
      out.names.push_back(axis.name);
      out.tensor.shape.push_back(*size);
    }
    auto count = static_cast<std::size_t>(elements(out.tensor.shape));
    out.tensor.data.assign(count, 0.0);
    switch (node.op->kind) {
      case OpKind::source:
        node.op->source(context_, node, out.tensor);
        VORTEX_CHECK(out.tensor.data.size() == count, node.op->name, " gave ", out.tensor.data.size(), " elements, ",
                     count, " expected");
        break;
      case OpKind::elementwise:
        elementwise(node, out);
        break;
      case OpKind::reduction:
      case OpKind::along:
        along(node, out);
        break;
      case OpKind::contraction:
        contraction(node, out);
        break;
      case OpKind::shape:
        shape(node, out);
        break;
      case OpKind::selection:
        choose(node, out);
        break;
      case OpKind::domain:
        node.op->name == "confine" ? confine(node, out)
        : node.op->name == "shift" ? shift(node, out)
                                   : spread(node, out);
        break;
      case OpKind::list:
        break;
    }
    if (double* const largest = context_.environment.largest; largest != nullptr)
      for (const double element : out.tensor.data)
        *largest = std::max(*largest, std::isfinite(element) ? std::fabs(element) : INFINITY);
    if (const std::uint32_t seed = context_.environment.rounding_seed; seed != 0) {
      std::minstd_rand random(seed * 4099 + static_cast<std::uint32_t>(id));
      std::uniform_real_distribution<double> step(-1e-6, 1e-6);
      for (double& element : out.tensor.data) {
        auto rounded = static_cast<float>(element * (1 + step(random)));
        // Open besides: whether a number below the smallest normal one is still there, and the sign of a zero.
        if (std::fabs(rounded) < std::numeric_limits<float>::min() && step(random) > 0)
          rounded = step(random) > 0 ? 0.0f : -0.0f;
        element = static_cast<double>(rounded);
      }
    }
  }

  const Value& input(const Node& node, std::size_t i) const {
    return values_[static_cast<std::size_t>(node.inputs[i])];
  }

  void elementwise(const Node& node, Value& out) const {
    std::vector<std::vector<std::int64_t>> strides;
    for (std::size_t i = 0; i < node.inputs.size(); ++i) strides.push_back(strides_along(input(node, i), out.names));
    std::vector<double> operands(node.inputs.size());
    Counter counter(out.tensor.shape);
    for (double& element : out.tensor.data) {
      for (std::size_t i = 0; i < operands.size(); ++i)
        operands[i] = input(node, i).tensor.data[static_cast<std::size_t>(offset(counter.index(), strides[i]))];
      element = node.op->scalar(operands, node.attributes);
      counter.next();
    }
  }

  // Reductions and `along`: for each line of the input along the axis, one call of the op's definition.
  void along(const Node& node, Value& out) const {
    const Value& in = input(node, 0);
    auto axis = static_cast<std::size_t>(std::find(in.names.begin(), in.names.end(), axis_of(node)) - in.names.begin());
    std::int64_t size = in.tensor.shape[axis];
    std::vector<std::int64_t> shape = in.tensor.shape;
    shape[axis] = 1;
    std::vector<std::int64_t> in_strides = strides_along(in, in.names), out_strides = strides_along(out, in.names);
    bool reduces = node.op->kind == OpKind::reduction;
    std::vector<double> line(static_cast<std::size_t>(size)), result(reduces ? 1 : line.size());
    Counter counter(shape);
    for (std::int64_t i = 0, lines = elements(shape); i < lines; ++i, counter.next()) {
      std::int64_t from = offset(counter.index(), in_strides), to = offset(counter.index(), out_strides);
      for (std::int64_t j = 0; j < size; ++j)
        line[static_cast<std::size_t>(j)] = in.tensor.data[static_cast<std::size_t>(from + j * in_strides[axis])];
      node.op->axis(line, result, node.attributes);
      for (std::size_t j = 0; j < result.size(); ++j)
        out.tensor.data[static_cast<std::size_t>(to) + j * static_cast<std::size_t>(reduces ? 0 : out_strides[axis])] =
            result[j];
    }
  }

  void contraction(const Node& node, Value& out) const {
    std::vector<std::string> names = out.names;
    names.push_back(axis_of(node));
    std::vector<std::int64_t> a = strides_along(input(node, 0), names), b = strides_along(input(node, 1), names);
    const Value& in = input(node, 0);
    std::int64_t size = in.tensor.shape[static_cast<std::size_t>(
        std::find(in.names.begin(), in.names.end(), names.back()) - in.names.begin())];
    Counter counter(out.tensor.shape);
    for (double& element : out.tensor.data) {
      std::int64_t from_a = offset(counter.index(), a), from_b = offset(counter.index(), b);
      for (std::int64_t i = 0; i < size; ++i)
        element += in.tensor.data[static_cast<std::size_t>(from_a + i * a.back())] *
                   input(node, 1).tensor.data[static_cast<std::size_t>(from_b + i * b.back())];
      counter.next();
    }
  }

  void shape(const Node& node, Value& out) const {
    const Value& in = input(node, 0);
    const Type& in_type = program_.node(node.inputs[0]).type;
    std::size_t skip = in.names.size() - in_type.axes.size();  // the axis "page", which no shape op touches
    std::span<const std::int64_t> in_shape(in.tensor.shape), out_shape(out.tensor.shape);
    std::vector<std::int64_t> strides = strides_along(in, in.names), from(in.names.size());
    Counter counter(out.tensor.shape);
    for (double& element : out.tensor.data) {
      if (skip == 1) from[0] = counter.index()[0];
      node.op->move({in_type, node.type, in_shape.subspan(skip), out_shape.subspan(skip), node.attributes},
                    counter.index().subspan(skip), std::span(from).subspan(skip));
      element = in.tensor.data[static_cast<std::size_t>(offset(from, strides))];
      counter.next();
    }
  }

  // Where the members of a list stand among all pages or groups.
  std::vector<std::size_t> members(std::int64_t list) const {
    const std::vector<double>& mask = values_[static_cast<std::size_t>(list)].tensor.data;
    std::vector<std::size_t> out;
    for (std::size_t i = 0; i < mask.size(); ++i)
      if (mask[i] != 0.0) out.push_back(i);
    return out;
  }

  std::int64_t instances(const Domain& domain) const {
    if (domain.kind == Domain::Kind::in_set) return static_cast<std::int64_t>(members(domain.set).size());
    if (domain.kind == Domain::Kind::group && context_.groups != nullptr)
      return static_cast<std::int64_t>(context_.groups->at(domain.pages).size());
    return pages_;
  }

  // Numbers of pages outside the domain of the input are never chosen.
  void choose(const Node& node, Value& out) const {
    const Domain& from = program_.node(node.inputs[0]).type.domain;
    const double amount = input(node, 1).tensor.data[0];
    const std::vector<double>& values = input(node, 0).tensor.data;
    std::vector<double> chosen(values.size(), 0.0);
    node.op->choose(values, amount, node.attributes, chosen);
    if (from.kind != Domain::Kind::in_set) {
      out.tensor.data = chosen;
      return;
    }
    const std::vector<std::size_t> places = members(from.set);
    for (std::size_t i = 0; i < chosen.size(); ++i) out.tensor.data[places[i]] = chosen[i];
  }

  // Copies instance `from` of the input into instance `to` of the output.
  static void copy_instance(const Value& in, std::size_t from, Value& out, std::size_t to) {
    const auto count = static_cast<std::size_t>(elements(std::span(out.tensor.shape).subspan(1)));
    for (std::size_t i = 0; i < count; ++i) out.tensor.data[to * count + i] = in.tensor.data[from * count + i];
  }

  void confine(const Node& node, Value& out) const {
    const Domain& from = program_.node(node.inputs[0]).type.domain;
    const std::vector<std::size_t> places = members(node.inputs[1]),
                                   had = from.set >= 0 ? members(from.set) : std::vector<std::size_t>{};
    for (std::size_t i = 0; i < places.size(); ++i) {
      std::size_t place = places[i];
      if (from.set >= 0) {
        const auto found = std::lower_bound(had.begin(), had.end(), place);
        VORTEX_CHECK(found != had.end() && *found == place, "a page outside the set that held it");
        place = static_cast<std::size_t>(found - had.begin());
      }
      copy_instance(input(node, 0), place, out, i);
    }
  }

  void spread(const Node& node, Value& out) const {
    const Domain& from = program_.node(node.inputs[0]).type.domain;
    std::fill(out.tensor.data.begin(), out.tensor.data.end(), number_of(node.attributes, "other"));
    if (from.kind == Domain::Kind::in_set) {
      const std::vector<std::size_t> places = members(from.set);
      for (std::size_t i = 0; i < places.size(); ++i) copy_instance(input(node, 0), i, out, places[i]);
      return;
    }
    const std::int64_t size = node.type.domain.pages;
    const std::vector<std::int64_t>&to = size > 1 ? context_.groups->at(size) : *context_.page_indices,
          &groups = context_.groups->at(from.pages);
    for (std::size_t i = 0; i < to.size(); ++i) {
      const auto found = std::lower_bound(groups.begin(), groups.end(), to[i] * size / from.pages);
      if (found != groups.end() && *found == to[i] * size / from.pages)
        copy_instance(input(node, 0), static_cast<std::size_t>(found - groups.begin()), out, i);
    }
  }

  void shift(const Node& node, Value& out) const {
    std::fill(out.tensor.data.begin(), out.tensor.data.end(), number_of(node.attributes, "other"));
    for (std::int64_t i = 0; i < pages_; ++i) {
      const std::int64_t from = i - integer_of(node.attributes, "by");
      if (from >= 0 && from < pages_)
        copy_instance(input(node, 0), static_cast<std::size_t>(from), out, static_cast<std::size_t>(i));
    }
  }

  const Program& program_;
  const SourceContext& context_;
  std::int64_t pages_;
  std::vector<Value> values_;
  std::vector<bool> done_;
};

std::vector<std::int64_t> shape_of(const Type& type, const Geometry& geometry) {
  std::vector<std::int64_t> shape;
  for (const Axis& axis : type.axes) shape.push_back(bind(axis.extent, geometry).value_or(-1));
  return shape;
}

void check_tensor(const std::string& name, const Tensor& tensor, const std::vector<std::int64_t>& shape) {
  auto text = [](const std::vector<std::int64_t>& sizes) {
    std::vector<std::string> parts;
    for (std::int64_t size : sizes) parts.push_back(std::to_string(size));
    return concat("[", join(parts, ", "), "]");
  };
  if (tensor.shape != shape || static_cast<std::int64_t>(tensor.data.size()) != elements(shape))
    throw UserError("interpreter", concat(name, " must be of shape ", text(shape)),
                    concat(text(tensor.shape), " with ", tensor.data.size(), " elements"),
                    "pass a tensor of that shape");
}

}  // namespace

std::map<std::string, Tensor> interpret_summaries(const Program& program, const Environment& environment,
                                                  const Tensor& k, const Tensor& v, std::int64_t group) {
  verify(program, environment.geometry);
  check_tensor("k", k, {group * environment.geometry.page_size, environment.geometry.head_dim});
  check_tensor("v", v, {group * environment.geometry.page_size, environment.geometry.value_channels()});
  SourceContext context{.environment = environment, .k = &k, .v = &v, .weights = &program.weights};
  Interpreter interpreter(program, context, 1);
  std::map<std::string, Tensor> out;
  for (const Summary& summary : program.summaries) {
    if (program.node(summary.value).type.domain.pages != group) continue;
    Tensor tensor = interpreter.evaluate(summary.value);
    tensor.shape.erase(tensor.shape.begin());  // the one page
    out[summary.name] = std::move(tensor);
  }
  return out;
}

namespace {

// Runs a program over the candidates of a row, after its inputs have been checked.
class RowInterpreter {
 public:
  RowInterpreter(const Program& program, const Environment& environment, const Tensor& q,
                 const std::map<std::string, Tensor>& summaries, const std::vector<std::int64_t>& page_indices,
                 const States& states)
      : pages_(static_cast<std::int64_t>(page_indices.size())),
        groups_(scored_groups(program, environment, page_indices)),
        context_{.environment = environment,
                 .q = &q,
                 .summaries = &summaries,
                 .page_indices = &page_indices,
                 .states = &states,
                 .groups = &groups_,
                 .weights = &program.weights},
        interpreter_(program, context_, pages_) {
    verify(program, environment.geometry);
    check_tensor("q", q, {environment.geometry.group, environment.geometry.head_dim});
    for (const Summary& summary : program.summaries) {
      std::vector<std::int64_t> shape = shape_of(program.node(summary.value).type, environment.geometry);
      const std::int64_t group = program.node(summary.value).type.domain.pages;
      const std::int64_t instances = group > 1 ? static_cast<std::int64_t>(groups_.at(group).size()) : pages_;
      shape.insert(shape.begin(), instances);
      auto found = summaries.find(summary.name);
      if (instances > 0)
        check_tensor(concat("summary ", summary.name), found == summaries.end() ? Tensor{} : found->second, shape);
    }
    for (const auto& [name, tensor] : states)
      if (const Node* reader = reader_of(program, name); reader != nullptr)
        check_tensor(concat("state ", name), tensor, state_shape(reader->type));
  }
  std::vector<double> operator()(ValueId root) {
    return root < 0 || pages_ == 0 ? std::vector<double>{} : interpreter_.evaluate(root).data;
  }
  // A value as the state of this type holds it: the same along axes that it lacks.
  Tensor next(const Type& state, ValueId value) {
    Tensor out{state_shape(state), {}};
    const std::vector<std::string> names = names_of(state);
    const Value from{names_of(interpreter_.type_of(value)), interpreter_.evaluate(value)};
    const std::vector<std::int64_t> strides = strides_along(from, names);
    Counter counter(out.shape);
    for (std::int64_t i = 0, count = elements(out.shape); i < count; ++i, counter.next())
      out.data.push_back(from.tensor.data[static_cast<std::size_t>(offset(counter.index(), strides))]);
    return out;
  }

 private:
  static std::vector<std::string> names_of(const Type& type) {
    std::vector<std::string> names;
    if (type.domain.kind == Domain::Kind::page) names.push_back("page");
    for (const Axis& axis : type.axes) names.push_back(axis.name);
    return names;
  }
  std::vector<std::int64_t> state_shape(const Type& type) const {
    std::vector<std::int64_t> shape = shape_of(type, context_.environment.geometry);
    if (type.domain.kind == Domain::Kind::page) shape.insert(shape.begin(), pages_);
    return shape;
  }
  // Of every size that the program names.
  static std::map<std::int64_t, std::vector<std::int64_t>> scored_groups(
      const Program& program, const Environment& environment, const std::vector<std::int64_t>& page_indices) {
    std::map<std::int64_t, std::vector<std::int64_t>> out;
    for (const Node& node : program.nodes) {
      const std::int64_t size = node.type.domain.pages;
      if (size == 1 || out.contains(size)) continue;
      std::vector<std::int64_t>& groups = out[size];
      if (page_indices.empty()) continue;
      const GroupRange range = groups_of(size, page_indices.front(), page_indices.back() + 1 - page_indices.front(),
                                         environment.tokens / environment.geometry.page_size);
      for (std::int64_t group = range.first; group < range.first + range.count; ++group) groups.push_back(group);
    }
    return out;
  }

  std::int64_t pages_;
  std::map<std::int64_t, std::vector<std::int64_t>> groups_;
  SourceContext context_;
  Interpreter interpreter_;
};

Environment with_left(const Program& program, const Environment& environment) {
  Environment out = environment;
  out.left = RowRule(program)(program.config, environment).chosen;
  return out;
}

}  // namespace

std::vector<double> interpret_scores(const Program& program, const Environment& environment, const Tensor& q,
                                     const std::map<std::string, Tensor>& summaries,
                                     const std::vector<std::int64_t>& page_indices, const States& states) {
  verify(program, environment.geometry);
  if (program.score < 0) return {};
  const Environment here = with_left(program, environment);
  const Domain& domain = program.node(program.score).type.domain;
  if (domain.kind != Domain::Kind::in_set)
    return RowInterpreter(program, here, q, summaries, page_indices, states)(program.score);
  Program all = program;
  const ValueId score = append(all, op_named("spread"), {program.score}, {{"other", 0.0}}, {}),
                set = program.node(static_cast<ValueId>(domain.set)).inputs[0];
  RowInterpreter row(all, here, q, summaries, page_indices, states);
  std::vector<double> scores = row(score);
  const std::vector<double> inside = row(set);
  for (std::size_t i = 0; i < scores.size(); ++i)
    if (inside[i] == 0.0) scores[i] = std::nan("");
  return scores;
}

std::vector<double> interpret_chosen(const Program& program, const Environment& environment, const Tensor& q,
                                     const std::map<std::string, Tensor>& summaries,
                                     const std::vector<std::int64_t>& page_indices, const States& states) {
  const Environment here = with_left(program, environment);
  if (program.score >= 0 && program.node(program.score).type.domain.kind == Domain::Kind::in_set) {
    Program among = program;  // the best among the pages of its set
    const ValueId left = append(among, op_named("seq_left"), {}, {}, {});
    among.selection = append(among, op_named("top_k"), {program.score, left}, {}, {});
    among.score = -1;
    return interpret_chosen(among, environment, q, summaries, page_indices, states);
  }
  RowInterpreter row(program, here, q, summaries, page_indices, states);
  if (program.selection >= 0) return row(program.selection);
  std::vector<double> chosen(page_indices.size(), 0.0);
  if (program.score >= 0 && !chosen.empty())
    choose_top_k(row(program.score), static_cast<double>(here.left), {}, chosen);
  return chosen;
}

States interpret_states(const Program& program, const Environment& environment, const Tensor& q,
                        const std::map<std::string, Tensor>& summaries, const std::vector<std::int64_t>& page_indices,
                        const States& states) {
  const Environment here = with_left(program, environment);
  RowInterpreter row(program, here, q, summaries, page_indices, states);
  States out;
  for (const State& state : program.states)
    out[state.name] = row.next(reader_of(program, state.name)->type, state.value);
  return out;
}

Rest interpret_rest(const Program& program, const Environment& environment, const Tensor& q,
                    const std::map<std::string, Tensor>& summaries, const std::vector<std::int64_t>& page_indices,
                    const States& states) {
  const auto group = static_cast<std::size_t>(environment.geometry.group);
  const auto dim = static_cast<std::size_t>(environment.geometry.value_channels());
  Rest out{std::vector<double>(group, -INFINITY), std::vector<double>(group * dim, 0.0)};
  if (program.rest_logit < 0) return out;
  const std::vector<double> chosen = interpret_chosen(program, environment, q, summaries, page_indices, states);
  const Environment here = with_left(program, environment);
  RowInterpreter row(program, here, q, summaries, page_indices, states);
  const std::vector<double> logits = row(program.rest_logit), values = row(program.rest_value);
  for (std::size_t head = 0; head < group; ++head) {
    double top = -INFINITY, mass = 0.0;
    for (std::size_t page = 0; page < chosen.size(); ++page)
      if (chosen[page] == 0.0) top = std::fmax(top, logits[page * group + head]);
    if (std::isinf(top)) continue;
    for (std::size_t page = 0; page < chosen.size(); ++page) {
      if (chosen[page] != 0.0) continue;
      const double weight = std::exp(logits[page * group + head] - top);
      mass += weight;
      for (std::size_t d = 0; d < dim; ++d) out.value[head * dim + d] += weight * values[page * dim + d];
    }
    out.logit[head] = top + std::log(mass);
    for (std::size_t d = 0; d < dim; ++d) out.value[head * dim + d] /= mass;
  }
  return out;
}

std::vector<std::int64_t> candidates_of(const FlowConfig& config, std::int64_t pages) {
  std::vector<std::int64_t> out;
  const RowPages row = row_pages(config, true, pages);
  for (std::int64_t page = row.first; page < row.first + row.candidates; ++page) out.push_back(page);
  return out;
}

std::vector<std::int64_t> interpret_selection(const FlowConfig& config, std::int64_t pages,
                                              const std::vector<std::int64_t>& candidates,
                                              const std::vector<double>& scores) {
  const RowPages row = row_pages(config, !scores.empty(), pages);
  std::vector<std::int64_t> chosen;
  for (std::int64_t page = 0; page < pages; ++page)
    if (!row.selects() || page < row.first || page >= row.first + row.candidates) chosen.push_back(page);
  if (row.selects() && row.chosen > 0) {
    std::vector<std::size_t> order(candidates.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      bool nan_a = std::isnan(scores[a]), nan_b = std::isnan(scores[b]);
      if (nan_a != nan_b) return nan_b;
      if (!nan_a && scores[a] != scores[b]) return scores[a] > scores[b];
      return candidates[a] < candidates[b];
    });
    for (std::size_t i = 0; i < std::min(static_cast<std::size_t>(row.chosen), order.size()); ++i)
      chosen.push_back(candidates[order[i]]);
  }
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

}  // namespace vortex::ir
