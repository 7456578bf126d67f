// A flow as data: the graph of values, its roots, and its settings. Everything downstream reads only this.
//
// Semantics. A program is pure: every value has one defining node, nodes are stored in an order where operands come
// first. Arithmetic is real-number arithmetic rounded as the backend states (the interpreter: double; CPU and CUDA:
// float32, summaries stored in config.summary_dtype). NaN: maximum, minimum and the reductions max and min return the
// other operand when one is NaN; a NaN score ranks below every number. Ties of a selection go to the lower page index.
// A reduction over an axis adds in an order the backend fixes once, independent of batch, threads and chunking. An axis
// "page" runs over the candidates: full pages that are neither sinks nor recent; over none, sum is 0, max is -inf,
// softmax has no elements. State advances at every decode step of a layer in which the flow works, whether or not the
// budget covers all; that of a page while it is a candidate.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "ir/config.h"
#include "ir/type.h"
#include "ir/weights.h"

namespace vortex::ir {

struct OpDef;

inline constexpr int kIrVersion = 1;

using ValueId = std::int32_t;
using Attribute = std::variant<std::int64_t, double, std::string>;
using Attributes = std::map<std::string, Attribute>;

struct SourceLocation {
  std::string file;
  int line = 0;  // 0: unknown

  bool operator==(const SourceLocation&) const = default;
};

struct Node {
  const OpDef* op = nullptr;
  std::vector<ValueId> inputs;
  Attributes attributes;
  Type type;
  SourceLocation location;

  bool operator==(const Node&) const = default;
};

// A summary: what the flow remembers of a full page. `value` is the node of the summarize phase that makes it; nodes
// with the op `summary` read it by name in the score phase.
struct Summary {
  std::string name;
  ValueId value = -1;

  bool operator==(const Summary&) const = default;
};

// State: what a flow carries of a page, or of a row, from one decode step to the next, for each request, layer and KV
// head. Nodes with the op `page_state` or `seq_state` read it by name as the step before left it, `value` is what they
// read in the next step. At first it is what the nodes that read it say.
struct State {
  std::string name;
  ValueId value = -1;

  bool operator==(const State&) const = default;
};

struct Program;

// Another flow for some layers. It has a budget, sinks, recent pages and summaries of its own; what layers do among
// each other (full_attention_layers, reuse, refresh_every) and the page size is said by the flow it stands in.
struct LayerFlow {
  std::vector<std::int64_t> layers;  // ascending
  std::shared_ptr<const Program> flow;

  bool operator==(const LayerFlow&) const;
};

struct Program {
  std::string name;
  std::string doc;
  FlowConfig config;
  Weights weights;  // of its parameters
  std::vector<Node> nodes;
  std::vector<Summary> summaries;  // in order of assignment
  std::vector<State> states;       // likewise
  ValueId score = -1;              // f32[] @page; -1: the flow has no score (sinks and recent only)
  ValueId selection = -1;          // set[] @page, in place of a score: the candidates that are attended
  // What a page that is not chosen contributes all the same: as one token of this logit, f32[head] @page, and this
  // value, f32[dim] @page. Compiled programs have them of the whole row: f32[head] @row and f32[head, dim] @row.
  ValueId rest_logit = -1, rest_value = -1;
  ValueId budget = -1;  // f32[] of the sequence: pages a row attends in all; -1: as the settings say

  std::vector<LayerFlow> others;  // in order of their first layers

  bool chooses() const { return score >= 0 || selection >= 0; }
  const Node& node(ValueId id) const { return nodes[static_cast<std::size_t>(id)]; }
  bool operator==(const Program&) const = default;
};

// The flow of a layer: one of `others`, or the program itself.
const Program& flow_at(const Program&, std::int64_t layer);

// What a program is for, beside its summaries: each a value or -1. Passes, readers and writers treat all alike.
struct RootDef {
  const char* name;  // as the text form has it: "score = %6"
  ValueId Program::*value;
};
std::span<const RootDef> all_roots();

// Canonical text; parse(print(p)) == p and prints the same text again. JSON likewise. Both readers take their input as
// hostile: sizes are bounded, types are inferred again and must agree, and every error names line and column.
std::string print(const Program&);
Program parse(const std::string& text);
std::string to_json(const Program&);
Program from_json(const std::string& text);

// Throws UserError with file and line of the flow. Run on everything that comes from outside, whatever produced it.
void verify(const Program&);
// Checks that the flow fits a model: every axis divides, every slice lies inside its axis, no value is huge. UserError
// otherwise.
void verify(const Program&, const Geometry&);

// The canonical form: dead code gone, constants folded, equal values merged, commuted operands in one order, Σ a·b one
// `dot`, and what cannot change the order of the scores dropped before the top-k. The scores of the canonical form rank
// pages as those of the program do wherever these are finite; their values may differ. Summaries keep their names.
Program canonicalize(const Program&);
// 16 hexadecimal digits, equal for flows that mean the same by these rules under the same config. Names of flow and
// summaries, docs and locations do not count. Different flows differ but for the odds of 64 bits; made to collide, they
// would pass for one.
std::string canonical_hash(const Program&);

}  // namespace vortex::ir
