// docs/op_support.md: where each op is at work on the CPU and on a GPU, from the case list that the tests of both run.
// The page is held fresh; VORTEX_UPDATE=1 build/tests/test_codegen --gtest_filter='Support*' rewrites it.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "base/text.h"
#include "codegen/cpu/flow.h"
#include "codegen/cuda/print.h"
#include "unit/codegen/op_cases.h"

namespace vortex::codegen {
namespace {

constexpr const char* kPage = "docs/op_support.md";
const char* const kPlaces[] = {"summarize", "layer", "row", "page", "group", "set"};

std::string place_of(const ir::Node& node) {
  if (node.op->phase == ir::Phase::summarize) return "summarize";
  switch (node.type.domain.kind) {
    case ir::Domain::Kind::layer:
      return "layer";
    case ir::Domain::Kind::row:
      return "row";
    case ir::Domain::Kind::page:
      return "page";
    case ir::Domain::Kind::group:
      return "group";
    case ir::Domain::Kind::in_set:
      return "set";
  }
  return "";
}

// Where the op of a case stands in it: the values that it makes, and for what becomes a number of the row those it
// reads.
std::set<std::string> places_of(const OpCase& at) {
  std::vector<bool> summarized(at.program.nodes.size(), false);
  for (const ir::Summary& summary : at.program.summaries) summarized[static_cast<std::size_t>(summary.value)] = true;
  for (std::size_t id = summarized.size(); id-- > 0;)
    if (summarized[id])
      for (ir::ValueId input : at.program.nodes[id].inputs) summarized[static_cast<std::size_t>(input)] = true;
  std::set<std::string> out;
  for (std::size_t id = 0; id < at.program.nodes.size(); ++id) {
    const ir::Node& node = at.program.nodes[id];
    if (node.op->name != at.op) continue;
    if (summarized[id]) {
      out.insert("summarize");
    } else if (ir::axis_of(node) == "page" && !node.inputs.empty()) {
      out.insert(place_of(at.program.node(node.inputs[0])));
    } else {
      out.insert(place_of(node));
    }
  }
  return out;
}

std::string page() {
  struct Mark {
    int cpu = 0, cuda = 0, cases = 0;
  };
  std::map<std::string, std::map<std::string, Mark>> marks;
  std::map<std::string, std::string> refusals;
  const ir::Geometry geometry{16, 64, 3};
  for (const OpCase& at : op_cases()) {
    const ir::Program program = with_numbers(at.program, geometry);
    auto plan = [&](ir::DType dtype) {
      ir::Program typed = program;
      typed.config.summary_dtype = dtype;
      return compiler::compile(typed, geometry, {.disabled_passes = {"canonicalize"}, .keep_text = false});
    };
    bool cpu = true, cuda = true;
    try {
      for (ir::DType dtype : {ir::DType::bf16, ir::DType::f32}) CpuFlow::build(plan(dtype));
    } catch (const UserError& error) {
      cpu = false;
      refusals[at.op] = error.what();
    }
    try {
      for (ir::DType dtype : {ir::DType::bf16, ir::DType::f32}) print_cuda(plan(dtype));
    } catch (const UserError& error) {
      cuda = false;
      refusals[at.op] = error.what();
    }
    for (const std::string& place : places_of(at)) {
      Mark& mark = marks[at.op][place];
      ++mark.cases;
      mark.cpu += cpu ? 1 : 0;
      mark.cuda += cuda ? 1 : 0;
    }
  }
  std::ostringstream out;
  out << "# Where each op is at work\n\n"
         "Made from the one list of cases, `tests/unit/codegen/op_cases.cpp`; a test holds it fresh. Each number "
         "counts cases that the CPU backend computes as the\n"
         "interpreter does, with summaries in bf16 and in float32 (`build/tests/test_codegen "
         "--gtest_filter='CpuFlow.EveryOp*'`), and that the test of a GPU holds it to\n"
         "(`build-cuda/tests/gpu/test_gpu --gtest_filter='Ops*'`, which of them have run there: [gpu.md](gpu.md)); `5 "
         "/ 0` would be "
         "five on the CPU and none on a GPU. An op over `\"page\"` is counted where\n"
         "its operand is. What is not implemented is refused in words. How long each case takes on the CPU: `ninja -C "
         "build bench_ops && build/benchmarks/bench_ops`. Random\n"
         "programs put every op beside every other, in these places too ([development.md](development.md)).\n\n"
         "| op | in `summarize` | of a layer | of a row | of pages | of groups | of a set's pages "
         "|\n|---|---|---|---|---|---|---|\n";
  for (const ir::OpDef* op : ir::all_ops()) {
    out << "| `" << op->name << "` |";
    for (const char* place : kPlaces) {
      const auto found = marks[op->name].find(place);
      if (found == marks[op->name].end()) {
        out << " – |";
      } else if (found->second.cpu == found->second.cuda) {
        out << " " << found->second.cpu << " |";
      } else {
        out << " " << found->second.cpu << " / " << found->second.cuda << " |";
      }
    }
    out << "\n";
  }
  if (!refusals.empty()) out << "\nRefused:\n\n";
  for (const auto& [op, words] : refusals) out << "- `" << op << "`: " << words << "\n";
  return out.str();
}

TEST(Support, ThePageSaysWhereEachOpWorks) {
  const std::string made = page();
  if (std::getenv("VORTEX_UPDATE") != nullptr) {
    std::ofstream(kPage) << made;
    return;
  }
  std::ifstream file(kPage);
  std::stringstream kept;
  kept << file.rdbuf();
  EXPECT_TRUE(kept.str() == made) << kPage << " is not fresh: VORTEX_UPDATE=1 writes it";
}

}  // namespace
}  // namespace vortex::codegen
