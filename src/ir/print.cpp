// The canonical text of a program. parse.cpp reads it back.
#include "base/text.h"
#include "ir/op.h"
#include "ir/text.h"

namespace vortex::ir {

std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (char letter : text) {
    if (letter == '"' || letter == '\\')
      out += concat('\\', letter);
    else if (letter == '\n')
      out += "\\n";
    else if (letter == '\t')
      out += "\\t";
    else
      out += letter;
  }
  return out + '"';
}

std::string attribute_text(const Attribute& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
  if (const auto* number = std::get_if<double>(&value)) return print_number(*number);
  return ir::quoted(std::get<std::string>(value));
}

namespace {

std::string print_node(const Node& node, std::size_t id, const std::string& source) {
  std::vector<std::string> arguments;
  for (ValueId input : node.inputs) arguments.push_back(concat("%", input));
  for (const AttributeDef& def : node.op->attributes)
    arguments.push_back(concat(def.name, "=", attribute_text(node.attributes.at(def.name))));
  std::string line = concat("%", id, " = ", node.op->name, "(", join(arguments, ", "), ") : ", print(node.type));
  if (node.location.line > 0) {
    line += " ; ";
    if (node.location.file != source) line += ir::quoted(node.location.file) + ":";
    line += std::to_string(node.location.line);
  }
  return line + "\n";
}

}  // namespace

std::string main_source(const Program& program) {
  for (const Node& node : program.nodes)
    if (node.location.line > 0) return node.location.file;
  return "";
}

namespace {

std::string print_flow(const Program& program) {
  std::string source = main_source(program);
  std::string out = concat("flow ", ir::quoted(program.name), "\n");
  if (!program.doc.empty()) out += concat("doc ", ir::quoted(program.doc), "\n");
  if (!source.empty()) out += concat("source ", ir::quoted(source), "\n");
  out += concat("config ", program.config.print(), "\n");
  if (program.weights != Weights{})
    out += concat("weights ", ir::quoted(program.weights.file), " ", ir::quoted(program.weights.digest), "\n");
  std::size_t printed = 0;  // summaries: each as soon as it and all before it are defined
  for (std::size_t id = 0; id < program.nodes.size(); ++id) {
    out += print_node(program.nodes[id], id, source);
    for (; printed < program.summaries.size() && program.summaries[printed].value <= static_cast<ValueId>(id);
         ++printed)
      out += concat("summary ", program.summaries[printed].name, " = %", program.summaries[printed].value, "\n");
  }
  for (const State& state : program.states) out += concat("state ", state.name, " = %", state.value, "\n");
  for (const RootDef& root : all_roots())
    if (program.*root.value >= 0) out += concat(root.name, " = %", program.*root.value, "\n");
  return out;
}

}  // namespace

std::string print(const Program& program) {
  std::string out = concat("vortex_ir ", kIrVersion, "\n", print_flow(program));
  for (const LayerFlow& other : program.others)
    out += concat("layers ", print_layers(other.layers), "\n", print_flow(*other.flow));
  return out;
}

}  // namespace vortex::ir
