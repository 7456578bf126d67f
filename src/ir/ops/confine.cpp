// confine: values of the pages of a set alone.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_confine() {
  OpDef op;
  op.name = op.tile = "confine";
  op.doc =
      "The values of a on the pages of the list b, made by `members`; what is computed from them is computed for those "
      "pages alone, and the axis \"page\" runs over them. Written `page.where(S).x`.";
  op.kind = OpKind::domain;
  op.arity = 2;
  op.takes_any = op.homogeneous = true;
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    const ValueId list = context.ids[1];
    if (context.program.node(list).op->kind != OpKind::list)
      throw UserError("", "confine takes the members of a set", print(context.inputs[1]), "say members(S)");
    const std::int64_t pages = context.inputs[1].domain.pages;
    if (!out.domain.has_instances())
      throw UserError("", "what is confined to a set differs from page to page", print(out), "use it as it is");
    if (out.domain.pages != pages)
      throw UserError("", concat("a value of ", pages > 1 ? concat("groups of ", pages, " pages") : "pages"),
                      print(out),
                      "confine values of what the set holds: pages to a set of pages, groups to a set of groups");
    if (out.domain.kind == Domain::Kind::in_set &&
        !is_sublist(context.program, list, static_cast<ValueId>(out.domain.set)))
      throw UserError("", "a value confined to a set goes on to sets inside that set", print(out),
                      "choose the second set from values of the first, or join both by &");
    out.domain = {Domain::Kind::in_set, pages, list};
    return out;
  };
  return op;
}

}  // namespace vortex::ir
