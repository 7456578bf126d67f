// group_v: the values of a group of pages.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_group_v() {
  OpDef op = source_op("group_v",
                       "Values of a group of `size` index-aligned pages, all its tokens. In `summarize` only. Written "
                       "`page.group(8).v`.",
                       Phase::summarize);
  op.attributes = group_attributes();
  op.infer = [](const InferContext& context) {
    return Type{.domain = group_domain(context),
                .axes = {{"token", {Extent::Symbol::token, integer_of(context.attributes, "size"), 1}},
                         {"dim", {Extent::Symbol::value_dim}}}};
  };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) { out.data = context.v->data; };
  return op;
}

}  // namespace vortex::ir
