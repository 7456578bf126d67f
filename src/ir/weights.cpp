#include "ir/weights.h"

#include <vortex/error.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/text.h"
#include "ir/op.h"
#include "ir/ops/state.h"

namespace vortex::ir {

namespace {

constexpr std::size_t kMaxLeading = 2;  // axes of layers and of KV heads

std::string name_of(const Node& node) { return text_of(node.attributes, "name"); }

std::string print(const std::vector<std::int64_t>& shape) {
  std::vector<std::string> sizes;
  for (std::int64_t size : shape) sizes.push_back(std::to_string(size));
  return concat("[", join(sizes, ", "), "]");
}

// The tensor with its last axes in the order of the type instead of that of the declaration.
Parameter in_order(const Parameter& from, const std::vector<Axis>& declared, const std::vector<Axis>& ordered) {
  const std::size_t leading = from.shape.size() - declared.size();
  std::vector<std::int64_t> stride(from.shape.size(), 1);
  for (std::size_t i = stride.size(); i-- > 1;) stride[i - 1] = stride[i] * from.shape[i];
  std::vector<std::int64_t> steps(stride.begin(), stride.begin() + static_cast<std::ptrdiff_t>(leading));
  Parameter out{{from.shape.begin(), from.shape.begin() + static_cast<std::ptrdiff_t>(leading)}, {}};
  for (const Axis& axis : ordered)
    for (std::size_t i = 0; i < declared.size(); ++i)
      if (declared[i].name == axis.name) {
        steps.push_back(stride[leading + i]);
        out.shape.push_back(from.shape[leading + i]);
      }
  std::vector<std::int64_t> index(out.shape.size(), 0);
  out.data.reserve(from.data.size());
  for (std::size_t count = 0; count < from.data.size(); ++count) {
    std::int64_t at = 0;
    for (std::size_t i = 0; i < index.size(); ++i) at += index[i] * steps[i];
    out.data.push_back(from.data[static_cast<std::size_t>(at)]);
    for (std::size_t i = index.size(); i-- > 0;) {
      if (++index[i] < out.shape[i]) break;
      index[i] = 0;
    }
  }
  return out;
}

std::string digest_of(const Parameters& tensors) {
  Hash hash;
  for (const auto& [name, tensor] : tensors) {
    hash.add(static_cast<std::uint64_t>(name.size()));
    hash.add(name);
    hash.add(static_cast<std::uint64_t>(tensor.shape.size()));
    for (std::int64_t size : tensor.shape) hash.add(static_cast<std::uint64_t>(size));
    hash.add(std::string_view(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size() * sizeof(float)));
  }
  return hash.hex();
}

}  // namespace

std::vector<const Node*> parameters_of(const Program& program) {
  std::vector<const Node*> out;
  for (const Node& node : program.nodes)
    if (is_parameter(node) &&
        std::none_of(out.begin(), out.end(), [&](const Node* other) { return name_of(*other) == name_of(node); }))
      out.push_back(&node);
  return out;
}

Program attach_weights(Program program, const Parameters& given) {
  Parameters tensors;
  for (const Node* node : parameters_of(program)) {
    const std::string name = name_of(*node);
    auto fail = [&](const std::string& required, const std::string& came, const std::string& todo) {
      throw UserError(print(node->location, program), required, came, todo);
    };
    const auto found = given.find(name);
    if (found == given.end()) {
      std::vector<std::string> known;
      for (const auto& [other, tensor] : given) known.push_back(other);
      const std::string near = nearest_name(name, known);
      known.resize(std::min<std::size_t>(known.size(), 8));
      fail(concat("a tensor \"", name, "\" among the weights"),
           known.empty() ? "weights without tensors" : concat("tensors such as ", join(known, ", ")),
           near.empty() ? "name the parameter as its tensor" : concat("did you mean \"", near, "\"?"));
    }
    const Parameter& tensor = found->second;
    const std::vector<Axis> axes = read_axes(text_of(node->attributes, "axes"));
    if (tensor.shape.size() < axes.size() || tensor.shape.size() > axes.size() + kMaxLeading)
      fail(concat("the parameter \"", name, "\", ", print(node->type), ", has ", axes.size(),
                  axes.size() == 1 ? " axis" : " axes",
                  ", before them one of layers, or one of layers and one of KV heads, or none"),
           concat("a tensor ", print(tensor.shape)), "give it such a shape");
    if (std::any_of(tensor.data.begin(), tensor.data.end(), [](float x) { return !std::isfinite(x); }))
      fail(concat("the parameter \"", name, "\" holds numbers"), "some that are infinite or NaN",
           "check how it was made");
    tensors[name] = in_order(tensor, axes, node->type.axes);
  }
  program.weights.digest = digest_of(tensors);
  program.weights.tensors = std::make_shared<const Parameters>(std::move(tensors));
  return program;
}

void require_weights(const Program& program, const Geometry& geometry, std::int64_t layers, std::int64_t kv_heads) {
  for (const Node* node : parameters_of(program)) {
    const std::string name = name_of(*node);
    if (program.weights.tensors == nullptr)
      throw UserError(print(node->location, program), concat("weights for the parameter \"", name, "\""), "none",
                      "name a safetensors file: --set weights=FILE, or weights = \"FILE\" in the flow");
    const Parameter& tensor = program.weights.tensors->at(name);
    std::vector<std::int64_t> wanted;
    const std::size_t leading = tensor.shape.size() - node->type.axes.size();
    if (leading > 0) wanted.push_back(layers);
    if (leading > 1) wanted.push_back(kv_heads);
    for (const Axis& axis : node->type.axes) wanted.push_back(bind(axis.extent, geometry).value_or(-1));
    if (wanted != tensor.shape)
      throw UserError(
          print(node->location, program),
          concat("the parameter \"", name, "\", ", print(node->type), ", is ", print(wanted), " for this model"),
          concat("weights of ", print(tensor.shape)), "make the weights for this model");
  }
}

std::int64_t offset_of(const Parameter& tensor, std::size_t axes, std::int64_t layer, std::int64_t kv_head) {
  std::int64_t elements = 1;
  const std::size_t leading = tensor.shape.size() - axes;
  for (std::size_t i = leading; i < tensor.shape.size(); ++i) elements *= tensor.shape[i];
  std::int64_t place = 0;
  if (leading > 0) place = layer;
  if (leading > 1) place = place * tensor.shape[1] + kv_head;
  return place * elements;
}

}  // namespace vortex::ir
