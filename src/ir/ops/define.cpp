// Type rules and frames that op files share.
#include "ir/ops/define.h"

#include <vortex/error.h>

#include <algorithm>

#include "base/check.h"
#include "base/text.h"

namespace vortex::ir {

namespace {

std::string quoted_names(const Type& type) {
  std::vector<std::string> names;
  for (const Axis& axis : type.axes) names.push_back(concat('"', axis.name, '"'));
  if (type.domain.has_instances()) names.push_back(type.domain.pages > 1 ? "\"group\"" : "\"page\"");
  return join(names, ", ");
}

[[noreturn]] void fail_axis(const Type& type, const std::string& name) {
  if (name == "page") {
    throw UserError("", "the axis \"page\" needs a value that differs from page to page",
                    concat("a value of type ", print(type)),
                    "use it on a value made from a summary or from page.index");
  }
  std::vector<std::string> known;
  for (const Axis& axis : type.axes) known.push_back(axis.name);
  if (type.domain.has_instances()) known.push_back(type.domain.pages > 1 ? "group" : "page");
  std::string near = nearest_name(name, known);
  std::string todo = !near.empty()   ? concat("did you mean \"", near, "\"?")
                     : known.empty() ? "the value is one number; leave the reduction out"
                                     : concat("use ", known.size() > 1 ? "one of " : "", quoted_names(type));
  throw UserError("", concat("the value must have the axis \"", name, "\""), concat("a value of type ", print(type)),
                  todo);
}

}  // namespace

const Axis& required_axis(const InferContext&, const Type& type, const std::string& name) {
  const Axis* axis = find_axis(type, name);
  if (axis == nullptr) fail_axis(type, name);
  return *axis;
}

std::size_t axis_index(const Type& type, std::string_view name) {
  for (std::size_t i = 0; i < type.axes.size(); ++i)
    if (type.axes[i].name == name) return i;
  VORTEX_CHECK(false, "no axis ", name, " in ", print(type));
}

Type with_axes(Type type, std::vector<Axis> axes) {
  type.axes = std::move(axes);
  sort_axes(type);
  for (std::size_t i = 0; i < type.axes.size(); ++i) {
    const std::string& name = type.axes[i].name;
    if (!is_axis_name(name)) {
      throw UserError("", "an axis name is lower-case letters, digits and _ (at most 64), and not \"page\"",
                      concat('"', name.substr(0, 80), '"'), "choose another name");
    }
    if (i > 0 && type.axes[i - 1].name == name) {
      throw UserError("", "the axes of a value must have different names", concat("\"", name, "\" twice"),
                      "choose another name, or rename one first");
    }
  }
  if (type.axes.size() > kMaxAxes)
    throw UserError("", concat("a value has at most ", kMaxAxes, " axes"), concat(type.axes.size()),
                    "merge or reduce some");
  return type;
}

namespace {

// Keys and values may be of equally many channels: which is known once the flow meets a model. The size of both is then
// written as that of a key.
bool join(Extent& into, const Extent& other) {
  auto as_key = [](Extent extent) {
    if (extent.symbol == Extent::Symbol::value_dim) extent.symbol = Extent::Symbol::dim;
    return extent;
  };
  if (into == other) return true;
  if (as_key(into) != as_key(other)) return false;
  into = as_key(into);
  return true;
}

}  // namespace

Domain meet(std::span<const Type> operands) {
  Domain out{Domain::Kind::layer};
  for (const Type& operand : operands) {
    if (out.has_instances() && operand.domain.has_instances() && operand.domain != out) {
      const bool groups = operand.domain.pages != out.pages;
      const bool sets = std::any_of(operands.begin(), operands.end(),
                                    [](const Type& type) { return type.dtype == DType::set && type.domain.pages > 1; });
      throw UserError("", "operands that differ from page to page are of the same pages",
                      concat("@", print(out), " and @", print(operand.domain)),
                      !groups ? "confine both to one set: page.where(a & b)"
                      : sets  ? "say which pages the set of groups holds: groups.pages()"
                              : "bring the groups' value to pages: x.spread(other=0)");
    }
    if (operand.domain.kind > out.kind) out = operand.domain;
  }
  return out;
}

Type infer_elementwise(const InferContext& context) {
  Type out;
  out.domain = meet(context.inputs);
  for (const Type& input : context.inputs) {
    for (const Axis& axis : input.axes) {
      const auto other =
          std::find_if(out.axes.begin(), out.axes.end(), [&](const Axis& seen) { return seen.name == axis.name; });
      if (other == out.axes.end()) {
        out.axes.push_back(axis);
      } else if (!join(other->extent, axis.extent)) {
        throw UserError("", concat("the axis \"", axis.name, "\" must have one size in all operands"),
                        concat(print(other->extent), " and ", print(axis.extent)),
                        "rename one of them if they are different axes");
      }
    }
  }
  return with_axes(out, out.axes);
}

Type infer_reduction(const InferContext& context) {
  Type out = context.inputs[0];
  const std::string& name = text_of(context.attributes, "axis");
  if (name == "page") {
    if (!out.domain.has_instances()) fail_axis(out, name);
    out.domain = {Domain::Kind::row};
    return out;
  }
  required_axis(context, out, name);
  std::erase_if(out.axes, [&](const Axis& axis) { return axis.name == name; });
  return out;
}

Type infer_along(const InferContext& context) {
  const Type& type = context.inputs[0];
  const std::string& name = text_of(context.attributes, "axis");
  if (name != "page")
    required_axis(context, type, name);
  else if (!type.domain.has_instances())
    fail_axis(type, name);
  return type;
}

Type infer_selection(const InferContext& context) {
  const Type &value = context.inputs[0], &amount = context.inputs[1];
  if (!value.domain.has_instances() || !value.axes.empty())
    throw UserError("", "pages are chosen by one number a page, f32[] @page", print(value),
                    value.axes.empty() ? "make it from a summary or from page.index"
                                       : concat("reduce the axis \"", value.axes[0].name, "\""));
  if (amount.domain.has_instances() || !amount.axes.empty())
    throw UserError("", "how much is chosen is one number for all pages", print(amount),
                    "use a number, or a value of seq or layer");
  Type out = value;
  out.dtype = DType::set;
  out.domain = value.domain.unit();
  return out;
}

Type infer_set(const InferContext& context) {
  Type out = infer_elementwise(context);
  if (out.domain.kind == Domain::Kind::in_set && out.axes.empty())
    throw UserError("", "a set is made of numbers of all pages", print(out),
                    "bring it to all pages first: x.spread(other=0), and join the set it is confined to by &");
  if (!out.domain.has_instances() || !out.axes.empty())
    throw UserError("", "a set of pages is made of one number a page, f32[] @page", print(out),
                    out.axes.empty() ? "make it from a summary or from page.index"
                                     : concat("reduce the axis \"", out.axes[0].name, "\""));
  out.dtype = DType::set;
  return out;
}

OpDef elementwise_op(std::string name, int arity, std::string doc) {
  return {.name = name,
          .doc = std::move(doc),
          .kind = OpKind::elementwise,
          .arity = arity,
          .infer = infer_elementwise,
          .tile = name};
}

OpDef reduction_op(std::string name, std::string doc) {
  return {.name = name,
          .doc = std::move(doc),
          .kind = OpKind::reduction,
          .arity = 1,
          .attributes = {{.name = "axis", .kind = AttributeKind::axis, .doc = "the axis that disappears"}},
          .infer = infer_reduction,
          .tile = name};
}

OpDef along_op(std::string name, std::string doc) {
  return {.name = name,
          .doc = std::move(doc),
          .kind = OpKind::along,
          .arity = 1,
          .attributes = {{.name = "axis", .kind = AttributeKind::axis, .doc = "the axis it runs along"}},
          .infer = infer_along,
          .tile = name};
}

OpDef selection_op(std::string name, std::string doc) {
  return {.name = name,
          .doc = std::move(doc),
          .kind = OpKind::selection,
          .arity = 2,
          .infer = infer_selection,
          .tile = name};
}

std::vector<AttributeDef> group_attributes() {
  return {{.name = "size", .kind = AttributeKind::integer, .doc = "pages of a group"}};
}

Domain group_domain(const InferContext& context) {
  const std::int64_t size = integer_of(context.attributes, "size");
  if (size < 2 || size > kMaxGroup)
    throw UserError("", concat("a group has 2 to ", kMaxGroup, " pages"), concat(size), "say page.group(8)");
  return {Domain::Kind::group, size};
}

OpDef source_op(std::string name, std::string doc, Phase phase) {
  return {.name = std::move(name),
          .doc = std::move(doc),
          .kind = OpKind::source,
          .phase = phase,
          .infer = [](const InferContext&) {
            Type type;
            type.domain.kind = Domain::Kind::layer;
            return type;
          }};
}

}  // namespace vortex::ir
