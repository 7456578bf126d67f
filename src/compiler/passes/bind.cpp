#include "compiler/passes/bind.h"

#include "compiler/rewrite.h"

namespace vortex::compiler {

using ir::Node;
using ir::ValueId;

namespace {

// Reductions that give their only element back.
bool is_identity_on_one(const Node& node) {
  const std::string& name = node.op->name;
  return name == "sum" || name == "mean" || name == "max" || name == "min";
}

}  // namespace

ir::Program bind(const ir::Program& program, const ir::Geometry& geometry) {
  ir::verify(program, geometry);
  Rewriter rewriter(program);
  bool moved = false;
  ir::Program out = rewriter.run([&](const Node& node, const std::vector<ValueId>& inputs) -> ValueId {
    if (node.op->name == "page_tokens") {
      moved = true;
      return rewriter.constant(static_cast<double>(geometry.page_size));
    }
    if (!is_identity_on_one(node)) return -1;
    const std::string axis = ir::axis_of(node);
    const ir::Axis* found = ir::find_axis(rewriter.node(inputs[0]).type, axis);
    if (found == nullptr || ir::bind(found->extent, geometry) != 1) return -1;
    const Node along = rewriter.node(inputs[0]);
    if (along.op->kind != ir::OpKind::along || ir::axis_of(along) != "page") return -1;
    moved = true;
    return rewriter.make(along.op->name, {rewriter.make(node.op->name, {along.inputs[0]}, node.attributes)},
                         along.attributes);
  });
  return moved ? out : program;
}

}  // namespace vortex::compiler
