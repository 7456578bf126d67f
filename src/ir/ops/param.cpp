// param: a learned tensor of the flow's weights.
#include "ir/ops/state.h"
#include "ir/weights.h"

namespace vortex::ir {

OpDef define_param() {
  OpDef op = source_op("param",
                       "A learned tensor, by its name in the flow's weights, a safetensors file. The file's tensor has "
                       "these axes, in the order given; before them it may have one of layers, or one of layers and "
                       "one of KV heads. Written `vx.param(\"w\", \"dim\", low=16)`.",
                       Phase::any);
  op.attributes = {{.name = "name", .kind = AttributeKind::text, .doc = "the tensor"},
                   {.name = "axes",
                    .kind = AttributeKind::text,
                    .required = false,
                    .fallback = std::string(),
                    .doc = "its axes: \"head\", \"token\", \"dim\", or a name and a size, \"low=16\""}};
  op.infer = [](const InferContext& context) {
    const std::string& name = text_of(context.attributes, "name");
    if (name.empty() || name.size() > kMaxName || name.find('\n') != std::string::npos)
      throw UserError("", concat("the name of a parameter is one line of at most ", kMaxName, " bytes"),
                      concat('"', name.substr(0, 80), '"'), "name a tensor of the weights");
    for (const Node& other : context.program.nodes)
      if (is_parameter(other) && text_of(other.attributes, "name") == name && other.attributes != context.attributes)
        throw UserError("", "a parameter is read everywhere with the same axes",
                        concat('"', name, "\" as ", print(other.type), " and otherwise"), "read it once");
    std::vector<const Node*> others = parameters_of(context.program);
    std::erase_if(others, [&](const Node* other) { return text_of(other->attributes, "name") == name; });
    if (others.size() >= kMaxParameters)
      throw UserError("", concat("a flow has at most ", kMaxParameters, " parameters"), "one more", "join some");
    const std::vector<Axis> axes = read_axes(text_of(context.attributes, "axes"));
    return with_axes({.dtype = DType::f32, .domain = {Domain::Kind::layer}, .axes = {}}, axes);
  };
  op.source = [](const SourceContext& context, const Node& node, Tensor& out) {
    const std::string& name = text_of(node.attributes, "name");
    const Weights* weights = context.weights;
    if (weights == nullptr || weights->tensors == nullptr || !weights->tensors->contains(name))
      throw UserError("interpreter", concat("weights for the parameter \"", name, "\""), "none", "attach them");
    const Parameter& tensor = weights->tensors->at(name);
    const auto begin = static_cast<std::size_t>(
        offset_of(tensor, node.type.axes.size(), context.environment.layer, context.environment.kv_head));
    if (begin + out.data.size() > tensor.data.size())
      throw UserError("interpreter", concat("the parameter \"", name, "\" for the layer, the KV head and the model"),
                      concat("layer ", context.environment.layer, ", KV head ", context.environment.kv_head),
                      "give weights for this model");
    for (std::size_t i = 0; i < out.data.size(); ++i) out.data[i] = static_cast<double>(tensor.data[begin + i]);
  };
  return op;
}

}  // namespace vortex::ir
