// Puts the stages of a flow together and says what its kernels can do beside scoring.
#include "codegen/cuda/print.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "base/check.h"
#include "base/text.h"
#include "codegen/cuda/budget.h"
#include "codegen/cuda/layout.h"
#include "codegen/cuda/scope.h"
#include "codegen/cuda/stage.h"

namespace vortex::codegen {

namespace {

using compiler::Stage;
using compiler::StageKind;

// Of a kernel that also selects (attention/cuda/flow_kernels.cuh): bytes beside its keys, and floats of q of a warp.
constexpr std::int64_t kSharedBesideKeys = 9 * 1024, kMostQueryFloats = 1024;
constexpr std::int64_t kMostOfAnyTeam = 256;  // floats that a row finishes with, where many rows share a multiprocessor

std::string include(bool wanted, const char* name) {
  return wanted ? concat("#include \"codegen/cuda/", name, "\"\n") : std::string();
}

// advances: the flow has state, so that rows whose pages are all attended are worked on too.
std::string print_head(const std::string& name, const ir::Geometry& geometry, bool advances,
                       const std::string& includes = "") {
  return concat("// Flow ", name, ", printed for page_size ", geometry.page_size, ", head_dim ", geometry.head_dim,
                ", group ", geometry.group, ".\n#include \"codegen/cuda/flow.cuh\"\n", includes,
                "\nnamespace vortex::cuda {\n", "constexpr int kFlowPage = ", geometry.page_size,
                ", kFlowHeadDim = ", geometry.head_dim,
                ";\nconstexpr bool kFlowAdvances = ", advances ? "true" : "false", ";\n");
}

// A finished page, and the groups whose last it is.
std::string print_summarize(const std::vector<std::pair<std::int64_t, std::string>>& stages,
                            const PrintedStage& largest) {
  std::string out =
      concat("\nconstexpr int kSummarizeFloats = ", std::max<std::int64_t>(largest.shared_floats, 1),
             ";\n__device__ inline void summarize(const FlowContext& c, const Block& team, float* shared) {\n");
  for (const auto& [pages, name] : stages) {
    if (pages == 1) {
      out += concat("  ", name, "(c, team, shared);\n");
      continue;
    }
    out += concat("  if ((c.page + 1) % ", pages, " == 0) {\n    team.sync();\n    ", name,
                  "(FlowContext{c.arguments, c.plan, c.sequence, c.head, c.page / ", pages, "}, team, shared);\n  }\n");
  }
  return out + "}\n";
}

}  // namespace

CudaFlow print_cuda(const compiler::Plan& plan) {
  VORTEX_CHECK(plan.others.empty(), "flows of single layers are printed one by one: ", plan.others.size(), " beside ",
               plan.program.name);
  const CudaLayout layout(plan);
  CudaFlow out;
  out.name = one_line(plan.program.name);
  out.fields = layout.fields();
  out.parameters = layout.parameters();
  out.states = layout.states();
  out.row_floats = layout.row_floats(), out.page_floats = layout.page_floats();

  std::map<std::string, std::string> primitives;
  std::map<StageKind, int> counts;
  std::set<ir::ValueId> made;
  bool weighs_pages = false;
  std::optional<PrintedStage> kernel, finish, summarize;         // the last kernel, and the two functions
  std::int64_t scored = 1;                                       // pages of one instance of that kernel
  std::vector<std::pair<std::int64_t, std::string>> summarized;  // pages that a function summarizes together, its name
  const bool has_groups = std::ranges::any_of(out.fields, [](const FieldLayout& field) { return field.pages > 1; });
  for (std::size_t i = 0; i < layout.stages().size(); ++i) {
    const Stage& stage = layout.stages()[i];
    const bool last = layout.is_last(i), summarizes = stage.kind == StageKind::summarize;
    std::string name = concat(compiler::name_of(stage.kind), "_", counts[stage.kind]++);
    if (summarizes) name = has_groups ? concat("summarize_", stage.domain.pages) : "summarize";
    if (summarizes) summarized.emplace_back(stage.domain.pages, name);
    if (last) name = "finish";
    const PrintedStage printed = print_stage(layout, stage, name, last, made, primitives);
    if (!summarizes) made.insert(stage.outputs.begin(), stage.outputs.end());
    if (printed.text.empty()) continue;
    out.text += printed.text;
    weighs_pages = weighs_pages || printed.weighs_pages;
    if (printed.kernel) out.stages.push_back(*printed.kernel);
    if (printed.kernel) scored = stage.domain.pages;
    PrintedStage& kept =
        (printed.kernel ? kernel
         : last         ? finish
                        : summarize)
            .emplace(summarizes && summarize && summarize->shared_floats > printed.shared_floats ? *summarize
                                                                                                 : printed);
    kept.text.clear();
  }
  if (has_groups) out.text += print_summarize(summarized, *summarize);
  if (!summarize) out.text += idle_function("summarize");
  if (!finish) out.text += idle_function("finish");

  const bool by_tiles = kernel && kernel->by_tiles && scored == 1;
  const std::int64_t bytes = (kernel ? kernel->shared_bytes : 0) + (finish ? finish->shared_bytes : 0);
  const bool wide = summarize && summarize->shared_floats > kMostTileWarps * kMostQueryFloats;
  // Sets that a score reads are chosen too.
  const bool chooses = std::ranges::any_of(plan.program.nodes,
                                           [](const ir::Node& node) { return node.op->kind == ir::OpKind::selection; });
  const bool confines = std::ranges::any_of(
      plan.program.nodes, [](const ir::Node& node) { return node.type.domain.kind == ir::Domain::Kind::in_set; });
  out.has_rest = plan.program.rest_logit >= 0;
  if (out.has_rest) out.text += "\n#define VORTEX_REST 1\n";
  out.keeps_lists = plan.program.config.refresh_every > 1;
  if (out.keeps_lists) out.text += "\n#define VORTEX_KEEPS 1\n";
  out.chooses_set = plan.program.selection >= 0, out.computes_budget = computes_budget(plan.program);
  if (out.chooses_set) out.text += "\n#define VORTEX_SET 1\n";
  if (out.computes_budget) out.text += print_budget(plan);
  out.any_team = !out.chooses_set && (!finish || (finish->any_team && finish->shared_floats <= kMostOfAnyTeam));
  if (out.any_team) out.text += "\n#define VORTEX_ANY_TEAM 1\n";
  out.selects_with_score = by_tiles && out.states.empty() && !out.keeps_lists && !chooses && !confines &&
                           bytes <= kSharedBesideKeys && !wide;
  if (out.selects_with_score)
    out.text += concat("\nconstexpr int kFlowGroup = ", plan.geometry.group, ";\n#define VORTEX_SCORE(part) ",
                       out.stages.back().kernel, "_##part\n");
  // A group that this step finishes is scored in it: it has to be there before.
  out.prepares_with_score = out.selects_with_score && out.stages.size() == 1 && !(finish && finish->reads_q) &&
                            !has_groups && plan.geometry.group * plan.geometry.head_dim <= kMostQueryFloats;
  if (out.prepares_with_score) out.text += "#define VORTEX_SCORE_ROW 1\n";
  std::string head = print_head(out.name, plan.geometry, !out.states.empty(),
                                include(chooses, "choose.cuh") + include(out.computes_budget, "budget.cuh") +
                                    include(weighs_pages, "weigh.cuh") + include(confines, "inside.cuh"));
  for (const auto& [name, body] : primitives) head += concat("\nstruct ", name, " {\n  ", body, "\n};\n");
  out.text = concat(head, out.text, "\n}  // namespace vortex::cuda\n");
  return out;
}

CudaFlow print_cuda_without_flow(const ir::Geometry& geometry) {
  CudaFlow out;
  out.name = "none";
  out.text = concat(print_head(out.name, geometry, false), idle_function("summarize"), idle_function("finish"),
                    "\n}  // namespace vortex::cuda\n");
  return out;
}

}  // namespace vortex::codegen
