// Device text stays what the printer means, whatever the flow is called and however its shapes are cut.
#include "codegen/cuda/print.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <functional>

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

// In a thread with a stack of 256 KiB: nothing between a flow and its device text goes down a chain of values by
// calling itself.
TEST(CudaText, TheLongestChainNeedsNoStack) {
  ir::Program p;
  p.name = "chain";
  p.config.budget = 8;
  auto add = [&](const char* op, std::vector<ir::ValueId> inputs, ir::Attributes attributes = {}) {
    return ir::append(p, ir::op_named(op), std::move(inputs), std::move(attributes), {"chain.py", 1});
  };
  ir::declare_summary(p, "mean", add("mean", {add("page_k", {})}, {{"axis", "token"}}), {"chain.py", 1});
  ir::ValueId value = add("dot", {add("q", {}), add("summary", {}, {{"name", "mean"}})}, {{"over", "dim"}});
  while (p.nodes.size() < ir::kMaxNodes - 1) value = add("tanh", {value});
  p.score = add("sum", {value}, {{"axis", "head"}});

  std::string text;
  std::function<void()> work = [&] { text = print_cuda(compiler::compile(p, {16, 64, 3})).text; };
  pthread_attr_t attributes;
  ASSERT_EQ(pthread_attr_init(&attributes), 0);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, 256 << 10), 0);
  pthread_t thread;
  const auto call = [](void* argument) -> void* {
    (*static_cast<std::function<void()>*>(argument))();
    return nullptr;
  };
  ASSERT_EQ(pthread_create(&thread, &attributes, call, &work), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
  std::size_t calls = 0;
  for (std::size_t at = 0; (at = text.find("tanhf(", at)) != std::string::npos; ++at) ++calls;
  EXPECT_GE(calls, ir::kMaxNodes - 10);
}

}  // namespace
}  // namespace vortex::codegen
