// Rebuilds a program node by node: what a pass on the IR is made of. Nodes are numbered by value as they are built, so
// equal ones are one whatever a rule asks for.
#pragma once

#include <map>
#include <string_view>
#include <tuple>
#include <vector>

#include "ir/op.h"

namespace vortex::compiler {

class Rewriter {
 public:
  explicit Rewriter(const ir::Program& source);

  const ir::Node& node(ir::ValueId id) const { return built_.node(id); }  // of the program being built
  const ir::Program& program() const { return built_; }

  // Builds a node, or finds the one that is equal.
  ir::ValueId make(std::string_view op, std::vector<ir::ValueId> inputs, ir::Attributes attributes = {});
  ir::ValueId make(const ir::OpDef& op, std::vector<ir::ValueId> inputs, ir::Attributes attributes);
  ir::ValueId constant(double value);
  // Products and sums of several values; of none: the constant 1 or 0.
  ir::ValueId product(const std::vector<ir::ValueId>& factors);

  bool is(ir::ValueId id, std::string_view op) const;
  bool is_page(ir::ValueId id) const;  // differs from page to page
  bool has_axis(ir::ValueId id, std::string_view axis) const;

  // Visits the source's nodes in order. rule(node, inputs) gets a source node and its operands in the new program and
  // returns the new value, or -1 to copy the node. The result holds what the roots need and nothing else.
  template <class Rule>
  ir::Program run(const Rule& rule) {
    for (std::size_t id = 0; id < source_.nodes.size(); ++id) {
      const ir::Node& old = source_.nodes[id];
      location_ = &old.location;
      std::vector<ir::ValueId> inputs;
      for (ir::ValueId input : old.inputs) inputs.push_back(renamed_[static_cast<std::size_t>(input)]);
      ir::ValueId value = rule(old, inputs);
      renamed_.push_back(value >= 0 ? value : copy(old, std::move(inputs)));
      declare_summaries(static_cast<ir::ValueId>(id));
    }
    return finish();
  }

 private:
  ir::ValueId copy(const ir::Node& old, std::vector<ir::ValueId> inputs);
  void declare_summaries(ir::ValueId upto);
  ir::Program finish() const;

  const ir::Program& source_;
  ir::Program built_;
  const ir::SourceLocation* location_ = nullptr;
  std::vector<ir::ValueId> renamed_;  // source node → built node
  std::size_t declared_ = 0;
  std::map<std::tuple<const ir::OpDef*, std::vector<ir::ValueId>, ir::Attributes>, ir::ValueId> known_;
};

}  // namespace vortex::compiler
