// Prints elements.
#include "codegen/cuda/scope.h"

#include <vortex/error.h>

#include <cmath>

#include "base/check.h"
#include "base/text.h"

namespace vortex::codegen {

using ir::Node;

namespace {

bool is_name_letter(char letter) {
  return (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9') || letter == '_';
}

}  // namespace

std::string fill_in(const Node& node, const std::vector<std::string>& operands, std::string (*print)(double)) {
  const auto attribute_text = [&](const ir::Attribute& attribute) {
    if (const auto* number = std::get_if<double>(&attribute)) return print(*number);
    if (const auto* integer = std::get_if<std::int64_t>(&attribute)) return print(static_cast<double>(*integer));
    return std::get<std::string>(attribute);
  };
  std::string out;
  const std::string& pattern = node.op->cuda;
  for (std::size_t i = 0; i < pattern.size();) {
    if (pattern[i] != '$') {
      out += pattern[i++];
      continue;
    }
    std::size_t end = ++i;
    while (end < pattern.size() && is_name_letter(pattern[end])) ++end;
    const std::string name = pattern.substr(i, end - i);
    VORTEX_CHECK(!name.empty(), node.op->name, ": ", pattern);
    if (name.find_first_not_of("0123456789") == std::string::npos) {
      out += operands.at(static_cast<std::size_t>(std::stoi(name)));
    } else {
      out += attribute_text(node.attributes.at(name));
    }
    i = end;
  }
  return out;
}

namespace {

// The index of the input element that an element of a shape op is.
Index moved(const compiler::Plan& plan, const Node& node, const Index& index) {
  const std::string& axis = ir::text_of(node.attributes, "axis");
  const ir::Type& input = plan.program.node(node.inputs[0]).type;
  Index out = index;
  if (node.op->name == "split") {
    const std::string& inner = ir::text_of(node.attributes, "name");
    out[axis] =
        concat("(", index.at(axis), " * ", ir::integer_of(node.attributes, "size"), " + ", index.at(inner), ")");
    if (inner != axis) out.erase(inner);
  } else if (node.op->name == "merge") {
    const std::string& inner = ir::text_of(node.attributes, "inner");
    const std::int64_t size = extent_of(plan, *ir::find_axis(input, inner));
    out[axis] = concat("(", index.at(axis), " / ", size, ")");
    out[inner] = concat("(", index.at(axis), " % ", size, ")");
  } else if (node.op->name == "rename") {
    const std::string& to = ir::text_of(node.attributes, "to");
    out.erase(to);
    out[axis] = index.at(to);
  } else if (node.op->name == "slice") {
    out[axis] = concat("(", index.at(axis), " + ", ir::integer_of(node.attributes, "start"), ")");
  } else if (node.op->name == "low_frequency") {
    const std::int64_t size = extent_of(plan, *ir::find_axis(input, axis));
    const std::int64_t kept = extent_of(plan, *ir::find_axis(node.type, axis));
    out[axis] = concat("(", index.at(axis), " + (", index.at(axis), " < ", kept / 2, " ? ", size / 2 - kept / 2, " : ",
                       size - kept, "))");
  } else if (node.op->name == "rope") {
    const std::int64_t first =
        extent_of(plan, *ir::find_axis(input, axis)) - extent_of(plan, *ir::find_axis(node.type, axis));
    out[axis] = concat("(", index.at(axis), " + ", first, ")");
  } else if (node.op->name != "nope") {  // the first channels stay where they are
    fail_without_cuda(plan, node);
  }
  return out;
}

}  // namespace

void fail_without_cuda(const compiler::Plan& plan, const Node& node) {
  throw UserError(ir::print(node.location, plan.program),
                  concat("a CUDA implementation of ", node.op->name, " was required"),
                  concat("the op on ", ir::print(node.type)), "use another op, or run the flow on the cpu");
}

std::string print_float(double value) {
  if (std::isnan(value)) return "(infinity() - infinity())";
  if (std::isinf(value)) return value > 0 ? "infinity()" : "-infinity()";
  std::string text = print_number(static_cast<double>(static_cast<float>(value)));
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return value < 0 ? concat("(", text, "f)") : text + "f";
}

std::int64_t extent_of(const compiler::Plan& plan, const ir::Axis& axis) {
  const auto size = ir::bind(axis.extent, plan.geometry);
  VORTEX_CHECK(size.has_value(), axis.name, " of ", ir::print(axis.extent));
  return *size;
}

std::int64_t elements_of(const compiler::Plan& plan, const ir::Type& type) {
  std::int64_t out = 1;
  for (const ir::Axis& axis : type.axes) out *= extent_of(plan, axis);
  return out;
}

std::string offset_of(const compiler::Plan& plan, const ir::Type& type, const Index& index) {
  std::string out;
  std::int64_t stride = elements_of(plan, type);
  for (const ir::Axis& axis : type.axes) {
    stride /= extent_of(plan, axis);
    if (!out.empty()) out += " + ";
    out += index.at(axis.name);
    if (stride != 1) out += concat(" * ", stride);
  }
  return out.empty() ? "0" : out;
}

std::int64_t tokens_of(const compiler::Plan& plan, const ir::Domain& domain) {
  return plan.geometry.page_size * domain.pages;
}

namespace {
std::string groups_of(const compiler::Plan& plan, const ir::Domain& domain) {
  return concat("Groups<", domain.pages, ", ", plan.geometry.page_size, ">::");
}
}  // namespace

std::string count_of(const compiler::Plan& plan, const ir::Domain& domain) {
  return domain.pages > 1 ? groups_of(plan, domain) + "count(c)" : "c.plan.candidates";
}

std::string first_of(const compiler::Plan& plan, const ir::Domain& domain) {
  return domain.pages > 1 ? groups_of(plan, domain) + "first(c)" : "c.plan.first_candidate";
}

ir::ValueId set_of(const compiler::Plan& plan, const ir::Domain& domain) {
  return plan.program.node(static_cast<ir::ValueId>(domain.set)).inputs[0];
}

std::string Scope::define(ir::ValueId value, const std::string& expression) {
  const int version = versions_[value]++;
  std::string name = concat("v", value, version == 0 ? std::string() : concat("_", version));
  statements_ += concat(indent_, "const float ", name, " = ", expression, ";\n");
  return name;
}

// Indices of shape ops over shape ops would double in length with each: a long one gets a name.
std::string Scope::named(const std::string& index) {
  constexpr std::size_t kLong = 48;
  if (index.size() <= kLong) return index;
  auto [found, fresh] = indices_.emplace(index, concat("at", indices_.size()));
  if (fresh) statements_ += concat(indent_, "const int ", found->second, " = ", index, ";\n");
  return found->second;
}

// An element whose operands are being made; `at` is their index.
struct Scope::Pending {
  ir::ValueId value;
  std::string key;
  Index at;
  std::vector<std::string> operands;
  std::string place = {};  // of a shift or a spread: the page or group it asks for, which there may not be
};

// The name of an element that exists, or that is read from somewhere; otherwise "", and it waits for its operands.
std::string Scope::begin(ir::ValueId value, const Index& all, std::vector<Pending>& waiting) {
  const Node& node = plan_.program.node(value);
  Index index;  // the axes this value has; others are broadcast
  std::string key = concat(value);
  if (node.type.domain.has_instances()) index["page"] = all.at("page"), key += all.at("page");
  for (const ir::Axis& axis : node.type.axes) {
    const std::string& at = index[axis.name] = all.at(axis.name);
    key += concat(",", axis.name, "=", at);
  }
  if (const auto found = names_.find(key); found != names_.end()) return found->second;
  if (node.op->name == "confine") return begin(node.inputs[0], index, waiting);  // a set's values lie where all do
  if (const std::string direct = read_(value, index); !direct.empty()) return names_[key] = define(value, direct);

  std::string place;
  if (node.op->kind == ir::OpKind::shape) {
    index = moved(plan_, node, index);
    for (auto& [axis, text] : index) text = named(text);
  } else if (node.op->kind == ir::OpKind::domain) {
    const ir::Domain& from = plan_.program.node(node.inputs[0]).type.domain;
    if (from.kind == ir::Domain::Kind::in_set && node.op->name == "spread") {
      place = concat(element(set_of(plan_, from), {{"page", index.at("page")}}), " != 0.0f");
    } else if (node.op->name == "shift") {
      place = concat(index.at("page"), " - (", ir::integer_of(node.attributes, "by"), ")");
    } else {  // spread: the group that the page is in
      place = concat("(", first_of(plan_, node.type.domain), " + ", index.at("page"), ") / ",
                     from.pages / node.type.domain.pages, " - ", first_of(plan_, from));
    }
    if (from.kind != ir::Domain::Kind::in_set)
      index["page"] = named(concat("clamp_index(", place, ", ", count_of(plan_, from), ")"));
  } else {
    VORTEX_CHECK(node.op->kind == ir::OpKind::elementwise, node.op->name, " of value ", value,
                 " is neither stored nor computed in its stage");
    if (node.op->cuda.empty()) fail_without_cuda(plan_, node);
  }
  waiting.push_back({value, std::move(key), std::move(index), {}, std::move(place)});
  return "";
}

// Chains of values are as long as a flow allows: what waits lies on the heap.
std::string Scope::element(ir::ValueId value, const Index& index) {
  std::vector<Pending> waiting;
  std::string name = begin(value, index, waiting);
  while (!waiting.empty()) {
    if (!name.empty()) waiting.back().operands.push_back(std::move(name));
    const Pending& last = waiting.back();
    const Node& node = plan_.program.node(last.value);
    if (last.operands.size() < node.inputs.size()) {
      const ir::ValueId input = node.inputs[last.operands.size()];
      name = begin(input, Index(last.at), waiting);  // a copy: `waiting` may move
    } else {
      if (node.op->kind == ir::OpKind::shape) {
        name = last.operands[0];
      } else if (node.op->kind == ir::OpKind::domain) {
        const ir::Domain& from = plan_.program.node(node.inputs[0]).type.domain;
        const std::string is_there = from.kind == ir::Domain::Kind::in_set
                                         ? last.place
                                         : concat("is_index(", last.place, ", ", count_of(plan_, from), ")");
        name = define(last.value, concat(is_there, " ? ", last.operands[0], " : ",
                                         print_float(ir::number_of(node.attributes, "other"))));
      } else {
        name = define(last.value, fill_in(node, last.operands, print_float));
      }
      names_[last.key] = name;
      waiting.pop_back();
    }
  }
  return name;
}

std::string one_line(std::string name) {
  for (char& letter : name)
    if (static_cast<unsigned char>(letter) < 0x20 || letter == '\\' || letter == '?') letter = '_';
  return name;
}

}  // namespace vortex::codegen
