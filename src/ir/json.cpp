// The JSON form of a program, for tools. Holds what the text form holds and is read as hostile in the same way; errors
// name the place in the document.
#include <vortex/error.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "ir/op.h"
#include "ir/text.h"

namespace vortex::ir {

namespace {

using Json = nlohmann::ordered_json;

Json config_json(const FlowConfig& config) {
  Json out;
  out["page_size"] = config.page_size;
  out["budget"] = config.budget;
  out["budget_ratio"] = config.budget_ratio;
  out["sinks"] = config.sinks;
  out["recent"] = config.recent;
  out["full_attention_layers"] = config.full_attention_layers;
  out["summary_dtype"] = name_of(config.summary_dtype);
  for (const auto& [layer, source] : config.reuse) out["reuse"][std::to_string(layer)] = source;
  if (config.reuse_run > 1) out["reuse"] = config.reuse_run;
  if (config.refresh_every > 1) out["refresh_every"] = config.refresh_every;
  return out;
}

// JSON has no infinities: they are written as text, "inf" and "-inf".
Json attribute_json(const Attribute& value) {
  if (const auto* integer = std::get_if<std::int64_t>(&value)) return *integer;
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  double number = std::get<double>(value);
  return std::isfinite(number) ? Json(number) : Json(print_number(number));
}

[[noreturn]] void fail(const std::string& where, const std::string& required, const std::string& came) {
  throw UserError(concat("flow JSON", where.empty() ? "" : " ", where), required, came,
                  "write a program as to_json does");
}

const char* kind_of(const Json& json) { return json.type_name(); }

const Json& member(const Json& json, const char* name, const std::string& where) {
  auto found = json.find(name);
  if (found == json.end()) fail(where, concat("\"", name, "\" is needed"), "nothing");
  return *found;
}

std::string text(const Json& json, const std::string& where) {
  if (!json.is_string()) fail(where, "a string is needed", kind_of(json));
  const auto& out = json.get_ref<const std::string&>();
  if (out.size() > kMaxString || !is_clean_text(out))
    fail(where, concat("a string is clean UTF-8 of at most ", kMaxString, " bytes"), "another");
  return out;
}

std::int64_t integer(const Json& json, const std::string& where, std::int64_t low, std::int64_t high) {
  if (!json.is_number_integer()) fail(where, "a whole number is needed", kind_of(json));
  bool huge = json.is_number_unsigned() && json.get<std::uint64_t>() > static_cast<std::uint64_t>(high);
  std::int64_t value = huge ? high : json.get<std::int64_t>();
  if (huge || value < low || value > high)
    fail(where, concat("a number from ", low, " to ", high, " is needed"), huge ? "more" : std::to_string(value));
  return value;
}

void only(const Json& json, const std::string& where, const std::vector<std::string>& known) {
  if (!json.is_object()) fail(where, "an object is needed", kind_of(json));
  for (const auto& [name, value] : json.items()) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    std::string near = nearest_name(name, known);
    fail(where, concat("one of ", join(known, ", ")),
         concat('"', name.substr(0, 80), '"', near.empty() ? "" : concat("; did you mean \"", near, "\"?")));
  }
}

// The text that FlowConfig::set reads.
std::string setting_text(const Json& json, const std::string& where) {
  if (json.is_string()) return text(json, where);
  if (json.is_number_integer()) return concat(integer(json, where, INT64_MIN, INT64_MAX));
  if (json.is_number_float()) return print_number(json.get<double>());
  std::string out;
  if (json.is_object() && json.size() <= 4096) {  // of layers by layer
    for (const auto& [layer, item] : json.items())
      out += concat(out.empty() ? "" : ",", layer.substr(0, 80), ":", integer(item, where, 0, 4095));
    return out;
  }
  if (!json.is_array() || json.size() > 4096)
    fail(where, "a number, a string or a list of layers is needed", kind_of(json));
  for (const Json& item : json) out += concat(out.empty() ? "" : ",", integer(item, where, 0, 4095));
  return out;
}

Attribute attribute(const OpDef& op, const std::string& name, const Json& json, const std::string& where) {
  if (json.is_number_integer()) return integer(json, where, INT64_MIN, INT64_MAX);
  if (json.is_number_float()) return json.get<double>();
  std::string value = text(json, where);
  for (const AttributeDef& def : op.attributes)
    if (def.name == name && def.kind == AttributeKind::number && (value == "inf" || value == "-inf"))
      return value == "inf" ? INFINITY : -INFINITY;
  return value;
}

// Errors of append and config carry no place in the document; give them one.
template <class Action>
void located(const std::string& where, Action action) {
  try {
    action();
  } catch (const UserError& error) {
    if (error.where().starts_with("flow JSON")) throw;
    throw UserError("flow JSON " + where, error.required(), error.came(), error.todo());
  }
}

void read_value(Program& program, const Json& json, const std::string& where, const std::string& source) {
  only(json, where, {"op", "inputs", "attributes", "type", "file", "line"});
  const OpDef* op = nullptr;
  located(where, [&] { op = &op_named(text(member(json, "op", where), where)); });
  std::vector<ValueId> inputs;
  if (auto found = json.find("inputs"); found != json.end()) {
    if (!found->is_array() || found->size() > 16) fail(where, "a list of at most 16 inputs is needed", kind_of(*found));
    for (const Json& input : *found) inputs.push_back(static_cast<ValueId>(integer(input, where, 0, kMaxNodes)));
  }
  Attributes attributes;
  if (auto found = json.find("attributes"); found != json.end()) {
    if (!found->is_object() || found->size() > 16)
      fail(where, "an object of at most 16 settings is needed", kind_of(*found));
    for (const auto& [name, value] : found->items()) attributes[name] = attribute(*op, name, value, where);
  }
  SourceLocation location;
  if (json.contains("line")) {
    location.line = static_cast<int>(integer(json["line"], where, 1, 100'000'000));
    location.file = json.contains("file") ? text(json["file"], where) : source;
  }
  located(where, [&] { append(program, *op, std::move(inputs), std::move(attributes), location); });
  if (json.contains("type")) {
    std::string inferred = print(program.nodes.back().type);
    if (text(json["type"], where) != inferred)
      fail(where, concat("a value of type ", inferred), text(json["type"], where).substr(0, 120));
  }
}

Program read(const Json& json);

// Flows of some layers: whole programs but for the version.
void read_others(Program& program, const Json& others) {
  if (!others.is_array() || others.size() > kMaxOthers)
    fail("others", concat("a list of at most ", kMaxOthers, " flows is needed"), kind_of(others));
  for (std::size_t i = 0; i < others.size(); ++i) {
    const std::string where = concat("others[", i, "]");
    only(others[i], where, {"layers", "program"});
    Json flow = member(others[i], "program", where);
    if (flow.is_object()) flow["vortex_ir"] = kIrVersion;
    located(where, [&] {
      add_layers(program, read_layers("layers", setting_text(member(others[i], "layers", where), where)), read(flow),
                 {});
    });
  }
}

Program read(const Json& json) {
  std::vector<std::string> known = {"vortex_ir", "flow",   "doc",       "source", "config",
                                    "weights",   "values", "summaries", "states", "others"};
  for (const RootDef& root : all_roots()) known.push_back(root.name);
  only(json, "", known);
  if (const Json& version = member(json, "vortex_ir", ""); version != kIrVersion)
    fail("", concat("this build reads version ", kIrVersion, " of the IR"),
         version.is_number() ? concat("version ", version.dump()) : kind_of(version));
  Program program;
  program.name = text(member(json, "flow", ""), "flow");
  if (json.contains("doc")) program.doc = text(json["doc"], "doc");
  std::string source = json.contains("source") ? text(json["source"], "source") : "";
  if (json.contains("config")) {
    if (!json["config"].is_object()) fail("config", "an object is needed", kind_of(json["config"]));
    for (const auto& [name, value] : json["config"].items())
      located("config", [&, &name = name, &value = value] { program.config.set(name, setting_text(value, "config")); });
  }
  if (json.contains("weights")) {
    only(json["weights"], "weights", {"file", "digest"});
    program.weights.file = text(member(json["weights"], "file", "weights"), "weights");
    program.weights.digest = text(member(json["weights"], "digest", "weights"), "weights");
  }
  const Json& values = member(json, "values", "");
  if (!values.is_array() || values.size() > kMaxNodes)
    fail("values", concat("a list of at most ", kMaxNodes, " values is needed"), kind_of(values));
  const Json summaries = json.contains("summaries") ? json["summaries"] : Json::array();
  if (!summaries.is_array() || summaries.size() > kMaxSummaries)
    fail("summaries", concat("a list of at most ", kMaxSummaries, " summaries is needed"), kind_of(summaries));
  std::size_t declared = 0;
  for (std::size_t id = 0; id < values.size(); ++id) {
    read_value(program, values[id], concat("values[", id, "]"), source);
    for (; declared < summaries.size(); ++declared) {
      std::string where = concat("summaries[", declared, "]");
      only(summaries[declared], where, {"name", "value"});
      auto value = static_cast<ValueId>(
          integer(member(summaries[declared], "value", where), where, 0, static_cast<std::int64_t>(values.size()) - 1));
      if (value > static_cast<ValueId>(id)) break;
      located(where,
              [&] { declare_summary(program, text(member(summaries[declared], "name", where), where), value, {}); });
    }
  }
  if (declared < summaries.size()) fail("summaries", "a summary must be a value of the flow", "none");
  const Json states = json.contains("states") ? json["states"] : Json::array();
  if (!states.is_array() || states.size() > kMaxStates)
    fail("states", concat("a list of at most ", kMaxStates, " states is needed"), kind_of(states));
  for (std::size_t s = 0; s < states.size(); ++s) {
    const std::string where = concat("states[", s, "]");
    only(states[s], where, {"name", "value"});
    const auto value = static_cast<ValueId>(
        integer(member(states[s], "value", where), where, 0, static_cast<std::int64_t>(values.size()) - 1));
    located(where, [&] { declare_state(program, text(member(states[s], "name", where), where), value, {}); });
  }
  for (const RootDef& root : all_roots())
    if (json.contains(root.name))
      program.*root.value =
          static_cast<ValueId>(integer(json[root.name], root.name, 0, static_cast<std::int64_t>(values.size()) - 1));
  if (json.contains("others")) read_others(program, json["others"]);
  return program;
}

}  // namespace

namespace {

Json json_of(const Program& program) {
  std::string source = main_source(program);
  Json out;
  out["flow"] = program.name;
  if (!program.doc.empty()) out["doc"] = program.doc;
  if (!source.empty()) out["source"] = source;
  out["config"] = config_json(program.config);
  if (program.weights != Weights{})
    out["weights"] = {{"file", program.weights.file}, {"digest", program.weights.digest}};
  out["values"] = Json::array();
  for (const Node& node : program.nodes) {
    Json value;
    value["op"] = node.op->name;
    if (!node.inputs.empty()) value["inputs"] = node.inputs;
    for (const AttributeDef& def : node.op->attributes)
      value["attributes"][def.name] = attribute_json(node.attributes.at(def.name));
    value["type"] = print(node.type);
    if (node.location.line > 0) {
      if (node.location.file != source) value["file"] = node.location.file;
      value["line"] = node.location.line;
    }
    out["values"].push_back(std::move(value));
  }
  out["summaries"] = Json::array();
  for (const Summary& summary : program.summaries)
    out["summaries"].push_back({{"name", summary.name}, {"value", summary.value}});
  for (const State& state : program.states) out["states"].push_back({{"name", state.name}, {"value", state.value}});
  for (const RootDef& root : all_roots())
    if (program.*root.value >= 0) out[root.name] = program.*root.value;
  return out;
}

}  // namespace

std::string to_json(const Program& program) {
  Json out;
  out["vortex_ir"] = kIrVersion;
  out.update(json_of(program));
  for (const LayerFlow& other : program.others)
    out["others"].push_back({{"layers", other.layers}, {"program", json_of(*other.flow)}});
  return out.dump(1);
}

Program from_json(const std::string& document) {
  if (document.size() > 4 * kMaxText)
    fail("", concat("a program has at most ", 4 * kMaxText, " bytes"), concat(document.size(), " bytes"));
  Json json;
  try {
    json = Json::parse(document, [](int depth, Json::parse_event_t, Json&) {
      if (depth > 8) fail("", "a program nests at most 8 deep", "a deeper document");
      return true;
    });
  } catch (const Json::exception& error) {
    fail("", "a JSON document is needed", std::string(error.what()).substr(0, 200));
  }
  return read(json);
}

}  // namespace vortex::ir
