// group_k: the keys of a group of pages.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_group_k() {
  OpDef op = source_op("group_k",
                       "Keys of a group of `size` index-aligned pages, all its tokens. In `summarize` only. Written "
                       "`page.group(8).k`.",
                       Phase::summarize);
  op.attributes = group_attributes();
  op.infer = [](const InferContext& context) {
    return Type{.domain = group_domain(context),
                .axes = {{"token", {Extent::Symbol::token, integer_of(context.attributes, "size"), 1}},
                         {"dim", {Extent::Symbol::dim}}}};
  };
  op.source = [](const SourceContext& context, const Node&, Tensor& out) { out.data = context.k->data; };
  return op;
}

}  // namespace vortex::ir
