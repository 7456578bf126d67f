// summary: what summarize stored, read back while scoring.
#include "ir/ops/define.h"

namespace vortex::ir {

OpDef define_summary() {
  OpDef op =
      source_op("summary", "A summary of the page by its name, with the axes `summarize` gave it. In `score` only.",
                Phase::score);
  op.attributes = {{.name = "name", .kind = AttributeKind::text, .doc = "the summary"}};
  op.infer = [](const InferContext& context) {
    const std::string& name = text_of(context.attributes, "name");
    std::vector<std::string> known;
    for (const Summary& summary : context.program.summaries) {
      if (summary.name == name) return context.program.node(summary.value).type;
      known.push_back(summary.name);
    }
    std::string near = nearest_name(name, known);
    throw UserError(
        "", concat("page.", name, " must be a summary"),
        known.empty() ? "the flow declares no summaries" : concat("the summaries are ", join(known, ", ")),
        near.empty() ? concat("assign page.", name, " in summarize") : concat("did you mean page.", near, "?"));
  };
  op.source = [](const SourceContext& context, const Node& node, Tensor& out) {
    if (const auto found = context.summaries->find(text_of(node.attributes, "name"));
        found != context.summaries->end())  // of no groups there may be none
      out.data = found->second.data;
  };
  return op;
}

}  // namespace vortex::ir
