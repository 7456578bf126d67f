// Builds the programs of the case list: `k` in summaries, `q`, row and page values in scores.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "ir/op.h"
#include "op_cases.h"

namespace vortex::codegen {

using ir::Attributes;
using ir::ValueId;

class Builder {
 public:
  ir::Program program;

  Builder() { program.config.budget = 8; }

  ValueId make(const std::string& op, std::vector<ValueId> inputs, Attributes attributes = {}) {
    return ir::append(program, ir::op_named(op), std::move(inputs), std::move(attributes), {"case.py", 1});
  }
  ValueId over(const std::string& op, ValueId x, const std::string& axis) { return make(op, {x}, {{"axis", axis}}); }
  ValueId dot(ValueId a, ValueId b, const std::string& axis) { return make("dot", {a, b}, {{"over", axis}}); }
  ValueId number(double value) { return make("constant", {}, {{"value", value}}); }
  ValueId k() { return make("page_k", {}); }
  ValueId v() { return make("page_v", {}); }
  ValueId q() { return make("q", {}); }
  void declare(const std::string& name, ValueId value) { ir::declare_summary(program, name, value, {"case.py", 1}); }
  ValueId read(const std::string& name) { return make("summary", {}, {{"name", name}}); }
  // A summary of the keys: [dim] @page.
  ValueId mean() {
    if (!has_mean_) declare("mean", over("mean", k(), "token"));
    has_mean_ = true;
    return read("mean");
  }
  ValueId keys() {
    declare("keys", k());
    return read("keys");
  }
  ValueId logits() { return dot(q(), mean(), "dim"); }  // [head] @page
  ValueId group_logits() {                              // [head] @group(4)
    declare("group", over("mean", make("group_k", {}, {{"size", std::int64_t{4}}}), "token"));
    return dot(q(), read("group"), "dim");
  }
  ValueId set_logits() {  // [head], of the pages of a set
    ValueId list = make("members", {make("last", {make("page_index", {}), number(20), make("seq_pages", {})})});
    return dot(q(), make("confine", {mean(), list}), "dim");
  }
  ValueId spread(ValueId value) { return make("spread", {value}, {{"other", 0.5}}); }
  // Ends the program with a score: all axes summed.
  ir::Program score(ValueId value) {
    while (!program.node(value).type.axes.empty())
      value = over("sum", value, program.node(value).type.axes.back().name);
    if (program.node(value).type.domain.kind != ir::Domain::Kind::page)
      value = make("mul", {value, make("page_index", {})});
    program.score = value;
    return program;
  }

 private:
  bool has_mean_ = false;
};

// softmax over "page", summed over the heads.
inline ir::Program shares(Builder& b, ValueId logits) { return b.score(b.over("softmax", logits, "page")); }

// The cases of op_cases_sets.cpp: sets and rests; pages of sets and groups; states; parameters.
void add_sets(std::vector<OpCase>&);
void add_domains(std::vector<OpCase>&);
void add_states(std::vector<OpCase>&);
void add_held(std::vector<OpCase>&);
void add_parameters(std::vector<OpCase>&);

}  // namespace vortex::codegen
