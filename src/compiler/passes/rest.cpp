#include "compiler/passes/rest.h"

#include <algorithm>
#include <limits>

#include "compiler/passes/schedule.h"
#include "compiler/rewrite.h"

namespace vortex::compiler {

using ir::Node;
using ir::Program;
using ir::ValueId;

namespace {

// A set is made of a value that is kept, and so is what is spread or shifted.
bool wants_kept(const Node& node) {
  return node.op->kind == ir::OpKind::selection || node.op->name == "spread" || node.op->name == "shift";
}

// Sources are read again wherever they are used, so they are not kept by themselves.
Program keep_what_ranks(const Program& program) {
  const bool needed = std::any_of(program.nodes.begin(), program.nodes.end(), [&](const Node& node) {
    return wants_kept(node) && is_read_again(program, node.inputs[0]);
  });
  if (!needed) return program;
  Rewriter rewriter(program);
  return rewriter.run([&](const Node& node, std::vector<ValueId> inputs) -> ValueId {
    if (!wants_kept(node) || !is_read_again(rewriter.program(), inputs[0])) return -1;
    inputs[0] = rewriter.make("add", {inputs[0], rewriter.constant(0.0)});
    return rewriter.make(*node.op, std::move(inputs), node.attributes);
  });
}

// What is kept of a state is made in a stage: a source is no value of one, and a state of pages is set page by page.
Program make_what_is_kept(Program program) {
  for (ir::State& state : program.states) {
    const Node value = program.node(state.value);
    const bool of_pages = ir::reader_of(program, state.name)->type.domain.kind == ir::Domain::Kind::page;
    const bool spread = of_pages && value.type.domain.kind != ir::Domain::Kind::page;
    if (value.op->kind != ir::OpKind::source && !spread) continue;
    auto make = [&](const char* op, std::vector<ValueId> inputs, ir::Attributes attributes = {}) {
      return ir::append(program, ir::op_named(op), std::move(inputs), std::move(attributes), value.location);
    };
    ValueId zero = make("constant", {}, {{"value", 0.0}});
    if (spread) zero = make("mul", {make("page_index", {}), zero});
    state.value = make("add", {state.value, zero});
  }
  return program;
}

// A score of the pages of a set chooses among them; the pages outside are not in the set of the best.
Program choose_inside(Program program) {
  if (program.score < 0 || program.node(program.score).type.domain.kind != ir::Domain::Kind::in_set) return program;
  const ir::SourceLocation place = program.node(program.score).location;
  const ValueId left = ir::append(program, ir::op_named("seq_left"), {}, {}, place);
  program.selection = ir::append(program, ir::op_named("top_k"), {program.score, left}, {}, place);
  program.score = -1;
  return program;
}

}  // namespace

Program gather_rest(const Program& given, const ir::Geometry&) {
  const Program program = choose_inside(make_what_is_kept(given));
  if (program.rest_logit < 0 || program.node(program.rest_logit).type.domain.kind == ir::Domain::Kind::row)
    return keep_what_ranks(program);
  Program out = program;
  const ir::SourceLocation place = program.node(program.rest_logit).location;
  auto make = [&](const char* op, std::vector<ValueId> inputs, ir::Attributes attributes = {}) {
    return ir::append(out, ir::op_named(op), std::move(inputs), std::move(attributes), place);
  };
  auto number = [&](double value) { return make("constant", {}, {{"value", value}}); };
  const ir::Attributes page = {{"axis", std::string("page")}};
  const double infinity = std::numeric_limits<double>::infinity();
  if (out.selection < 0) {
    out.selection = make("top_k", {out.score, make("seq_left", {})});
    out.score = -1;
  }
  const ValueId logit = make("where", {out.selection, number(-infinity), out.rest_logit});
  const ValueId top = make("max", {logit}, page);
  const ValueId shift = make("where", {make("equal", {make("abs", {top}), number(infinity)}), number(0.0), top});
  const ValueId power = make("exp", {make("sub", {logit, shift})});
  const ValueId total = make("sum", {power}, page);
  const ValueId weighed = make("dot", {power, out.rest_value}, {{"over", std::string("page")}});
  out.rest_logit = make("add", {shift, make("log", {total})});
  out.rest_value = make("div", {weighed, total});
  return keep_what_ranks(out);
}

}  // namespace vortex::compiler
