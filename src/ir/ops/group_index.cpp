// group_index: where a group stands in its sequence.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_group_index() {
  OpDef op =
      source_op("group_index",
                "Index of a group of `size` pages in its sequence, from 0: it holds the pages from size · index on. "
                "Written `page.group(8).index`.",
                Phase::score);
  op.attributes = group_attributes();
  op.infer = [](const InferContext& context) { return Type{.domain = group_domain(context), .axes = {}}; };
  op.source = [](const SourceContext& context, const Node& node, Tensor& out) {
    const std::vector<std::int64_t>& groups = context.groups->at(integer_of(node.attributes, "size"));
    for (std::size_t i = 0; i < out.data.size(); ++i) out.data[i] = static_cast<double>(groups[i]);
  };
  return op;
}

}  // namespace vortex::ir
