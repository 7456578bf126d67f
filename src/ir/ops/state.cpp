#include "ir/ops/state.h"

#include <algorithm>
#include <charconv>

namespace vortex::ir {

std::vector<Axis> read_axes(std::string_view text) {
  std::vector<Axis> axes;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    std::string_view one = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    while (one.starts_with(' ')) one.remove_prefix(1);
    while (one.ends_with(' ')) one.remove_suffix(1);
    const std::size_t equals = one.find('=');
    Axis axis{std::string(one.substr(0, equals)), {}};
    const std::string_view size_text = equals == std::string_view::npos ? one : one.substr(equals + 1);
    static const std::map<std::string, Extent::Symbol, std::less<>> known = {
        {"head", Extent::Symbol::head}, {"token", Extent::Symbol::token}, {"dim", Extent::Symbol::dim}};
    if (const auto found = known.find(size_text); found != known.end()) {
      axis.extent.symbol = found->second;
    } else if (equals == std::string_view::npos) {
      throw UserError("", "declared axes are \"head\", \"token\", \"dim\", or a name and its size",
                      concat('"', one.substr(0, 80), '"'), "give its size by name, as in sub=4");
    } else {
      std::int64_t size = 0;
      const auto [end, error] = std::from_chars(size_text.data(), size_text.data() + size_text.size(), size);
      if (error != std::errc{} || end != size_text.data() + size_text.size() || size < 1 || size > kMaxExtent)
        throw UserError("",
                        concat("the size of an axis is a whole number from 1 to ", kMaxExtent,
                               ", or that of \"head\", \"token\" or \"dim\""),
                        concat('"', one.substr(0, 80), '"'), "give another");
      axis.extent = constant_extent(size);
    }
    axes.push_back(std::move(axis));
    if (axes.size() > kMaxAxes)
      throw UserError("", concat("a value has at most ", kMaxAxes, " axes"), concat(axes.size()), "leave some out");
  }
  return axes;
}

namespace {

Type infer_state(const InferContext& context, Domain::Kind kind, const std::string& op) {
  const std::string& name = text_of(context.attributes, "name");
  const bool letters = std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
  if (name.empty() || name.size() > 64 || !letters)
    throw UserError("", "the name of a state is letters, digits and _, at most 64",
                    concat('"', name.substr(0, 80), '"'), "choose another name");
  if (const Node* other = reader_of(context.program, name);
      other != nullptr && (other->op->name != op || other->attributes != context.attributes))
    throw UserError("", "a state is read everywhere with one initial value, and axes, of the page or of the sequence",
                    concat('"', name, "\" as ", print(other->type), " from ",
                           print_number(number_of(other->attributes, "initial")), " on and otherwise"),
                    "read it once, or choose another name");
  return with_axes({.dtype = DType::f32, .domain = {kind}, .axes = {}}, read_axes(text_of(context.attributes, "axes")));
}

}  // namespace

OpDef state_op(std::string name, std::string doc, Domain::Kind kind) {
  OpDef op = source_op(std::move(name), std::move(doc), Phase::score);
  op.attributes = {{.name = "name", .kind = AttributeKind::text, .doc = "the state"},
                   {.name = "initial",
                    .kind = AttributeKind::number,
                    .required = false,
                    .fallback = 0.0,
                    .doc = "what it is before the first step"},
                   {.name = "axes",
                    .kind = AttributeKind::text,
                    .required = false,
                    .fallback = std::string(),
                    .doc = "its axes: \"head\", \"token\", \"dim\", or a name and a size, \"sub=4\""}};
  if (kind == Domain::Kind::page)
    op.infer = [](const InferContext& context) { return infer_state(context, Domain::Kind::page, "page_state"); };
  else
    op.infer = [](const InferContext& context) { return infer_state(context, Domain::Kind::row, "seq_state"); };
  op.source = [](const SourceContext& context, const Node& node, Tensor& out) {
    const std::string& state = text_of(node.attributes, "name");
    if (context.states != nullptr)
      if (const auto found = context.states->find(state); found != context.states->end()) {
        out.data = found->second.data;
        return;
      }
    std::fill(out.data.begin(), out.data.end(), number_of(node.attributes, "initial"));
  };
  return op;
}

}  // namespace vortex::ir
