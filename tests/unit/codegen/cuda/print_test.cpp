// Device text stays what the printer means, whatever the flow is called and however its shapes are cut.
#include "codegen/cuda/print.h"

#include <gtest/gtest.h>

#include "ir/op.h"

namespace vortex::codegen {
namespace {

// The mean key of a page, its tokens cut and joined `times` times before.
CudaFlow printed(const std::string& name, int times) {
  ir::Program p;
  p.name = name;
  p.config.budget = 8;
  auto add = [&](const char* op, std::vector<ir::ValueId> inputs, ir::Attributes attributes = {}) {
    return ir::append(p, ir::op_named(op), std::move(inputs), std::move(attributes), {"cut.py", 1});
  };
  ir::ValueId k = add("page_k", {});
  for (int i = 0; i < times; ++i) {
    k = add("split", {k}, {{"axis", "token"}, {"name", "sub"}, {"size", std::int64_t{4}}});
    k = add("merge", {k}, {{"axis", "token"}, {"inner", "sub"}});
  }
  ir::declare_summary(p, "mean", add("mean", {k}, {{"axis", "token"}}), {"cut.py", 1});
  ir::ValueId dot = add("dot", {add("q", {}), add("summary", {}, {{"name", "mean"}})}, {{"over", "dim"}});
  p.score = add("sum", {dot}, {{"axis", "head"}});
  return print_cuda(compiler::compile(p, {16, 64, 3}));
}

TEST(CudaText, AFlowsNameStaysInItsComment) {
  const CudaFlow flow = printed("a\n#include \"/etc/passwd\"\nb\\", 0);
  EXPECT_EQ(flow.text.find("\n#include \"/etc"), std::string::npos) << flow.text.substr(0, 200);
  EXPECT_NE(flow.text.find("// Flow a_#include \"/etc/passwd\"_b_,"), std::string::npos) << flow.text.substr(0, 200);
}

TEST(CudaText, CutsOfCutsGrowByALineEach) {
  const std::size_t plain = printed("cut", 1).text.size();
  EXPECT_LT(printed("cut", 40).text.size(), plain + 40 * 1000);
}

}  // namespace
}  // namespace vortex::codegen
