// The C++ flow language: handles over a growing program.
#include <vortex/error.h>
#include <vortex/flow.h>

#include "base/text.h"
#include "ir/op.h"
#include "ir/snippet.h"

namespace vortex::flow {

namespace {

ir::Attributes attributes_of(const Settings& settings) { return {settings.begin(), settings.end()}; }

}  // namespace

std::string Value::type() const { return program_ ? ir::print(program_->node(id_).type) : "a number"; }

void Value::set(const Value& next, const Where& where) const {
  const bool is_state = program_ && ir::is_state(program_->node(id_));
  if (!is_state)
    throw UserError(where.line > 0 ? concat(where.file, ":", where.line) : "set",
                    "only a state is set: what page.keep or seq.keep gave",
                    program_ ? concat("a value ", type()) : type(),
                    "keep what keep() returns in a variable, and set that");
  if (next.program_ && next.program_ != program_)
    throw UserError(where.line > 0 ? concat(where.file, ":", where.line) : "set",
                    "a state is set to a value of its flow", "a value of another flow",
                    "use values of the flow being traced");
  const int id = next.program_ ? next.id_
                               : ir::append(*program_, ir::op_named("constant"), {}, {{"value", next.number_}},
                                            {where.file, where.line});
  ir::declare_state(*program_, ir::text_of(program_->node(id_).attributes, "name"), id, {where.file, where.line});
}

Value Value::apply(const char* op, const std::string& axis) const { return flow::apply(op, {*this}, {{"axis", axis}}); }

Value apply(const std::string& op, const std::vector<Value>& operands, const Settings& settings, const Where& where) {
  std::shared_ptr<ir::Program> program;
  std::string place = where.line > 0 ? concat(where.file, ":", where.line) : op;
  for (const Value& operand : operands) {
    if (!operand.program_) continue;
    if (program && program != operand.program_)
      throw UserError(place, "the operands of an op belong to one flow", "values of two flows",
                      "use values of the flow being traced");
    program = operand.program_;
  }
  if (!program)
    throw UserError(place, concat(op, " needs a value of a flow"), "plain numbers",
                    "compute with plain numbers in C++ itself");
  std::vector<ir::ValueId> inputs;
  for (const Value& operand : operands)
    inputs.push_back(operand.program_ ? operand.id_
                                      : ir::append(*program, ir::op_named("constant"), {}, {{"value", operand.number_}},
                                                   {where.file, where.line}));
  return Value(program, ir::append_meeting(*program, ir::op_named(op), std::move(inputs), attributes_of(settings),
                                           {where.file, where.line}));
}

Flow::Flow(std::string name, std::string doc) : program_(std::make_shared<ir::Program>()) {
  program_->name = std::move(name);
  program_->doc = std::move(doc);
}

void Flow::set(const std::string& name, const std::string& value) { program_->config.set(name, value); }

Value Flow::source(const std::string& op, const Settings& settings, const Where& where) {
  return Value(program_,
               ir::append(*program_, ir::op_named(op), {}, attributes_of(settings), {where.file, where.line}));
}

void Flow::summarize(const std::string& name, const Value& value, const Where& where) {
  int id = value.program_ ? value.id_ : constant(value.number_, where).id_;
  ir::declare_summary(*program_, name, id, {where.file, where.line});
}

void Flow::weights(const std::string& file) { program_->weights.file = file; }

void Flow::score(const Value& value) { program_->score = value.program_ ? value.id_ : constant(value.number_).id_; }

void Flow::select(const Value& set) { program_->selection = set.program_ ? set.id_ : constant(set.number_).id_; }

void Flow::rest(const Value& logit, const Value& value) {
  program_->rest_logit = logit.program_ ? logit.id_ : constant(logit.number_).id_;
  program_->rest_value = value.program_ ? value.id_ : constant(value.number_).id_;
}

void Flow::layers(const std::string& layers, const Flow& other) {
  ir::add_layers(*program_, ir::read_layers("layers", layers), *other.program_, {});
}

void Flow::budget(const Value& value) { program_->budget = value.program_ ? value.id_ : constant(value.number_).id_; }

void Flow::budget(const std::string& snippet, const Settings& numbers, const Where& where) {
  std::map<std::string, ir::SnippetNumber> known;
  for (const auto& [name, setting] : numbers) {
    if (const auto* whole = std::get_if<std::int64_t>(&setting))
      known[name] = {static_cast<double>(*whole), true};
    else if (const auto* number = std::get_if<double>(&setting))
      known[name] = {*number, false};
  }
  program_->budget = ir::append_budget_snippet(*program_, snippet, known, {where.file, where.line});
}

Value Flow::value(int id) const {
  if (id < 0 || static_cast<std::size_t>(id) >= program_->nodes.size())
    throw UserError("flow " + program_->name, "a value of the flow", concat("%", id),
                    "use a number that Value::id gave");
  return Value(program_, id);
}

const ir::Program& Flow::finish() const {
  ir::verify(*program_);
  return *program_;
}

std::string Flow::text() const { return ir::print(finish()); }
std::string Flow::json() const { return ir::to_json(finish()); }
std::string Flow::hash() const { return ir::canonical_hash(finish()); }

}  // namespace vortex::flow
