// Building programs: every node goes through append, whoever makes it, so every node is checked and typed once.
#include <vortex/error.h>

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "ir/op.h"

namespace vortex::ir {

namespace {

const char* name_of(AttributeKind kind) {
  switch (kind) {
    case AttributeKind::integer:
      return "a whole number";
    case AttributeKind::number:
      return "a number";
    case AttributeKind::text:
      return "a name";
    case AttributeKind::axis:
      return "the name of an axis";
  }
  return "?";
}

std::string print(const Attribute& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&value)) return print_number(*number);
  return concat('"', std::get<std::string>(value).substr(0, 80), '"');
}

// A number may be written without a fraction; nothing else changes its kind.
void convert(const OpDef& op, const AttributeDef& def, Attribute& value) {
  if (def.kind == AttributeKind::number)
    if (const auto* integer = std::get_if<std::int64_t>(&value)) value = static_cast<double>(*integer);
  bool right = false;
  switch (def.kind) {
    case AttributeKind::integer:
      right = std::holds_alternative<std::int64_t>(value);
      break;
    case AttributeKind::number:
      right = std::holds_alternative<double>(value) && !std::isnan(std::get<double>(value));
      break;
    case AttributeKind::text:
    case AttributeKind::axis:
      right = std::holds_alternative<std::string>(value);
      break;
  }
  if (right) return;
  bool axis = def.kind == AttributeKind::axis && !std::holds_alternative<std::string>(value);
  throw UserError("", concat(op.name, " needs ", name_of(def.kind), " as ", def.name), print(value),
                  axis ? "axes have names, not numbers: \"token\", \"dim\", \"head\" or \"page\""
                       : concat("give ", name_of(def.kind)));
}

void check_attributes(const OpDef& op, Attributes& attributes) {
  std::vector<std::string> known;
  for (const AttributeDef& def : op.attributes) known.push_back(def.name);
  for (const auto& [name, value] : attributes) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string near = nearest_name(name, known);
    throw UserError(
        "", known.empty() ? concat(op.name, " takes no settings") : concat(op.name, " takes ", join(known, ", ")),
        concat('"', name.substr(0, 80), '"'), near.empty() ? "leave it out" : concat("did you mean \"", near, "\"?"));
  }
  for (const AttributeDef& def : op.attributes) {
    auto found = attributes.find(def.name);
    if (found == attributes.end()) {
      if (def.required)
        throw UserError("", concat(op.name, " needs ", name_of(def.kind), " as ", def.name), "nothing",
                        concat("give ", def.name));
      found = attributes.emplace(def.name, def.fallback).first;
    }
    convert(op, def, found->second);
  }
}

Type infer(const Program& program, const OpDef& op, const std::vector<ValueId>& inputs, Attributes& attributes) {
  if (program.nodes.size() >= 4 * kMaxNodes)
    throw UserError("", concat("a flow has at most ", kMaxNodes, " values"), "one more",
                    "simplify the flow, or shorten its loops");
  if (static_cast<int>(inputs.size()) != op.arity)
    throw UserError("", concat(op.name, " takes ", op.arity, op.arity == 1 ? " value" : " values"),
                    concat(inputs.size()), "check its operands");
  std::vector<Type> types;
  for (ValueId input : inputs) {
    if (input < 0 || static_cast<std::size_t>(input) >= program.nodes.size())
      throw UserError("", "an operand must be a value defined before it is used", concat("%", input),
                      "define it first");
    types.push_back(program.node(input).type);
  }
  for (std::size_t i = 0; i < types.size(); ++i) {
    const Type& type = types[i];
    if (op.takes_any) break;
    if (type.dtype == DType::set && !type.domain.has_instances())
      throw UserError("", concat(op.name, " takes values, not lists"), concat("%", inputs[i], ", the members of a set"),
                      "use the set itself, or confine(x, members)");
    if ((type.dtype == DType::set) == op.takes_sets || (i == 0 && op.condition)) continue;
    if (op.takes_sets)
      throw UserError("", concat(op.name, " takes sets of pages"), print(type),
                      "make a set of it: top_k(x, k), top_p(x, p) or threshold(x, t)");
    throw UserError("", concat(op.name, " takes numbers"), concat(print(type), ", a set of pages"),
                    "sets are joined by | and &, and returned by select");
  }
  // Over the instances of a value of groups one may say "group".
  for (const AttributeDef& def : op.attributes)
    if (auto found = attributes.find(def.name); def.kind == AttributeKind::axis && found != attributes.end())
      if (const auto* axis = std::get_if<std::string>(&found->second);
          axis != nullptr && *axis == "group" && types[0].domain.has_instances() && types[0].domain.pages > 1 &&
          find_axis(types[0], "group") == nullptr)
        found->second = std::string("page");
  check_attributes(op, attributes);
  return op.infer({types, inputs, attributes, program});
}

bool is_summary_name(std::string_view name) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (name.empty() || name.size() > 64 || !letter(name[0])) return false;
  return std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

}  // namespace

std::string print(const SourceLocation& location, const Program& program) {
  return location.line > 0 ? concat(location.file, ":", location.line) : concat("flow ", program.name);
}

ValueId append(Program& program, const OpDef& op, std::vector<ValueId> inputs, Attributes attributes,
               SourceLocation location) {
  Type type;
  try {
    type = infer(program, op, inputs, attributes);
  } catch (const UserError& error) {
    throw UserError(print(location, program), error.required(), error.came(), error.todo());
  }
  program.nodes.push_back({&op, std::move(inputs), std::move(attributes), std::move(type), std::move(location)});
  return static_cast<ValueId>(program.nodes.size() - 1);
}

void declare_summary(Program& program, const std::string& name, ValueId value, const SourceLocation& location) {
  auto fail = [&](const std::string& required, const std::string& came, const std::string& todo) {
    throw UserError(print(location, program), required, came, todo);
  };
  if (!is_summary_name(name))
    fail("the name of a summary is letters, digits and _, at most 64", concat('"', name.substr(0, 80), '"'),
         "choose another name");
  for (const Summary& summary : program.summaries)
    if (summary.name == name)
      fail("every summary has its own name", concat("\"", name, "\" twice"), "choose another name");
  if (program.summaries.size() >= kMaxSummaries)
    fail(concat("a flow has at most ", kMaxSummaries, " summaries"), "one more", "merge some");
  if (value < 0 || static_cast<std::size_t>(value) >= program.nodes.size())
    fail("a summary must be a value defined before it", concat("%", value), "define it first");
  program.summaries.push_back({name, value});
}

const Node* reader_of(const Program& program, std::string_view state) {
  for (const Node& node : program.nodes)
    if (is_state(node) && text_of(node.attributes, "name") == state) return &node;
  return nullptr;
}

void declare_state(Program& program, const std::string& name, ValueId value, const SourceLocation& location) {
  auto fail = [&](const std::string& required, const std::string& came, const std::string& todo) {
    throw UserError(print(location, program), required, came, todo);
  };
  const Node* reader = reader_of(program, name);
  if (reader == nullptr) {
    std::vector<std::string> known;
    for (const Node& node : program.nodes)
      if (is_state(node)) known.push_back(text_of(node.attributes, "name"));
    const std::string near = nearest_name(name, known);
    fail("a state that is set has been read", concat('"', name.substr(0, 80), '"'),
         near.empty() ? "read it first: page.keep(name, initial)" : concat("did you mean \"", near, "\"?"));
  }
  for (const State& state : program.states)
    if (state.name == name)
      fail("a state is set once in a step", concat('"', name, "\" twice"),
           "set it to vx.where(condition, a, b), or keep two states");
  if (program.states.size() >= kMaxStates)
    fail(concat("a flow sets at most ", kMaxStates, " states"), "one more", "merge some");
  if (value < 0 || static_cast<std::size_t>(value) >= program.nodes.size())
    fail("a state is set to a value defined before", concat("%", value), "define it first");
  const Type &type = program.node(value).type, &kept = reader->type;
  if (type.dtype != DType::f32)
    fail("a state holds numbers", concat(print(type), ", a set of pages"), "set it to vx.where(set, 1.0, 0.0)");
  if (kept.domain.has_instances() && type.domain.has_instances() && type.domain != kept.domain)
    fail(concat("what is set to \"", name, "\" is of every page, ", print(kept)), print(type),
         "bring it to all pages: x.spread(other=0)");
  if (type.domain.kind > kept.domain.kind)
    fail(concat("what is set to \"", name, "\" is one for the sequence, ", print(kept)), print(type),
         "reduce the axis \"page\", or keep it of the page: page.keep");
  for (const Axis& axis : type.axes) {
    const Axis* own = find_axis(kept, axis.name);
    if (own == nullptr || own->extent != axis.extent)
      fail(concat("what is set to \"", name, "\" has the axes of ", print(kept)), print(type),
           own == nullptr ? concat("reduce the axis \"", axis.name, "\", or keep it: page.keep(name, initial, \"",
                                   axis.name, "\")")
                          : concat("the axis \"", axis.name, "\" is of another size"));
  }
  program.states.push_back({name, value});
}

void add_layers(Program& program, std::vector<std::int64_t> layers, Program flow, const SourceLocation& location) {
  auto fail = [&](const std::string& required, const std::string& came, const std::string& todo) {
    throw UserError(print(location, program), required, came, todo);
  };
  if (layers.empty())
    fail("a flow of some layers names them", concat("none for ", flow.name), "say layers = {0: ..., (4, 5): ...}");
  for (std::int64_t layer : layers) {
    if (layer < 0 || layer > 4095) fail("layers from 0 to 4095", concat(layer), "name layers that a model has");
    for (const LayerFlow& other : program.others)
      if (std::binary_search(other.layers.begin(), other.layers.end(), layer))
        fail("a layer has one flow", concat("layer ", layer, " with ", other.flow->name, " and ", flow.name),
             "leave one out");
  }
  if (!flow.others.empty())
    fail("the flow of some layers is one flow", concat(flow.name, ", which has others for some layers"),
         "name all of them in one place");
  if (program.others.size() >= kMaxOthers)
    fail(concat("a flow has at most ", kMaxOthers, " others"), "one more", "let layers share some");
  const auto later = std::find_if(program.others.begin(), program.others.end(),
                                  [&](const LayerFlow& other) { return other.layers[0] > layers[0]; });
  program.others.insert(later, {std::move(layers), std::make_shared<const Program>(std::move(flow))});
}

std::int64_t integer_of(const Attributes& attributes, const std::string& name) {
  return std::get<std::int64_t>(attributes.at(name));
}
double number_of(const Attributes& attributes, const std::string& name) {
  return std::get<double>(attributes.at(name));
}
const std::string& text_of(const Attributes& attributes, const std::string& name) {
  return std::get<std::string>(attributes.at(name));
}

std::string axis_of(const Node& node) {
  switch (node.op->kind) {
    case OpKind::reduction:
    case OpKind::along:
      return text_of(node.attributes, "axis");
    case OpKind::contraction:
      return text_of(node.attributes, "over");
    case OpKind::selection:
    case OpKind::list:
      return "page";
    default:
      return "";
  }
}

}  // namespace vortex::ir
