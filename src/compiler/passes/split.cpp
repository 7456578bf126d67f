#include "compiler/passes/split.h"

#include <limits>

#include "compiler/rewrite.h"

namespace vortex::compiler {

using ir::Node;
using ir::ValueId;

ir::Program split_along_page(const ir::Program& program, const ir::Geometry&) {
  Rewriter rewriter(program);
  const ir::Attributes page = {{"axis", std::string("page")}};
  return rewriter.run([&](const Node& node, const std::vector<ValueId>& inputs) -> ValueId {
    if (ir::axis_of(node) != "page") return -1;
    const std::string& name = node.op->name;
    if (name == "softmax") {
      ValueId top = rewriter.make("max", inputs, page);
      ValueId power = rewriter.make("exp", {rewriter.make("sub", {inputs[0], top})});
      ValueId total = rewriter.make("sum", {power}, page);
      return rewriter.make("mul", {power, rewriter.make("div", {rewriter.constant(1.0), total})});
    }
    if (name == "normalize") return rewriter.make("div", {inputs[0], rewriter.make("sum", inputs, page)});
    if (name == "logsumexp") {
      ValueId top = rewriter.make("max", inputs, page);
      ValueId infinity = rewriter.constant(std::numeric_limits<double>::infinity());
      ValueId is_infinite = rewriter.make("equal", {rewriter.make("abs", {top}), infinity});
      ValueId shift = rewriter.make("where", {is_infinite, rewriter.constant(0.0), top});
      ValueId power = rewriter.make("exp", {rewriter.make("sub", {inputs[0], shift})});
      return rewriter.make("add", {shift, rewriter.make("log", {rewriter.make("sum", {power}, page)})});
    }
    return -1;
  });
}

}  // namespace vortex::compiler
