// members: a set as one thing of the row, so that values can be confined to it.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_members() {
  OpDef op;
  op.name = op.tile = "members";
  op.doc = "The pages of a set in ascending order, as a list that `confine` takes. Written `page.where(S)`.";
  op.kind = OpKind::list;
  op.arity = 1;
  op.takes_sets = true;
  op.phase = Phase::score;
  op.infer = [](const InferContext& context) {
    const Type& set = context.inputs[0];
    if (set.domain.kind == Domain::Kind::in_set)
      throw UserError("", "the members of a set are those of all pages", print(set), "use the set itself");
    return Type{.dtype = DType::set, .domain = {Domain::Kind::row, set.domain.pages}, .axes = {}};
  };
  return op;
}

}  // namespace vortex::ir
