// spread: values of groups, or of the pages of a set, as values of all pages.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_spread() {
  OpDef op;
  op.name = op.tile = "spread";
  op.doc =
      "A value of groups, or of the pages of a set, as a value of all pages: a page has that of its group, and `other` "
      "where there is none (outside the set; in the last group while it is not full). A set of groups becomes the set "
      "of their pages; `S.pages()` is `S.spread(other=1)`, which includes pages whose group is not full yet.";
  op.kind = OpKind::domain;
  op.arity = 1;
  op.takes_any = true;
  op.phase = Phase::score;
  op.attributes = {{.name = "other", .doc = "the number of pages without one; of a set 0 or 1"},
                   {.name = "size",
                    .kind = AttributeKind::integer,
                    .required = false,
                    .fallback = std::int64_t{1},
                    .doc = "1: to pages; n: to groups of n pages"}};
  op.infer = [](const InferContext& context) {
    Type out = context.inputs[0];
    const std::int64_t size = integer_of(context.attributes, "size");
    const double other = number_of(context.attributes, "other");
    if (out.dtype == DType::set && other != 0.0 && other != 1.0)
      throw UserError("", "pages without a group are in a set or not: other is 0 or 1", print_number(other),
                      "say other=1");
    if (out.domain.kind == Domain::Kind::in_set) {
      if (size != 1)
        throw UserError("", "a confined value is spread over what its set is of", concat("size ", size),
                        "leave size out");
      out.domain = out.domain.unit();
      return out;
    }
    if (out.domain.kind != Domain::Kind::group)
      throw UserError("", "spread takes a value of groups or of the pages of a set", print(out), "use it as it is");
    if (size < 1 || size >= out.domain.pages || out.domain.pages % size != 0)
      throw UserError("",
                      concat("groups of ", out.domain.pages,
                             " pages are spread over pages or over smaller groups that divide them"),
                      concat("size ", size), "leave size out for pages");
    out.domain = Domain{Domain::Kind::group, size}.unit();
    return out;
  };
  return op;
}

}  // namespace vortex::ir
