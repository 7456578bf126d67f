// What the CUDA printer refuses, in words; what it prints stands in tests/text/cuda.
#include "codegen/cuda/print.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include "ir/op.h"

namespace vortex::codegen {
namespace {

compiler::Plan plan_of(const std::string& body, const ir::Geometry& geometry) {
  const ir::Program program = ir::parse(
      "vortex_ir 1\nflow \"refused\"\nconfig budget=8 page_size=" + std::to_string(geometry.page_size) + "\n" + body);
  return compiler::compile(program, geometry);
}

std::string refusal(const compiler::Plan& plan) {
  try {
    print_cuda(plan);
  } catch (const UserError& error) {
    return error.what();
  }
  return "printed";
}

TEST(PrintCuda, NamesAnOpWithoutCuda) {
  compiler::Plan plan = plan_of(R"(%0 = page_k()
%1 = max(%0, axis="token")
summary top = %1
%2 = summary(name="top")
%3 = q()
%4 = dot(%2, %3, over="dim")
%5 = tanh(%4)
%6 = sum(%5, axis="head")
score = %6
)",
                                {16, 64, 3});
  EXPECT_EQ(refusal(plan), "printed");
  static ir::OpDef host_only = ir::op_named("tanh");
  host_only.cuda = "";
  for (ir::Node& node : plan.program.nodes)
    if (node.op->name == "tanh") node.op = &host_only;
  EXPECT_EQ(refusal(plan),
            "[flow refused] a CUDA implementation of tanh was required; the op on f32[head] @page; use another "
            "op, or run the flow on the cpu");
}

TEST(PrintCuda, AnOpMayBringItsOwnPrimitive) {
  compiler::Plan plan = plan_of(R"(%0 = page_k()
%1 = max(%0, axis="token")
summary top = %1
%2 = summary(name="top")
%3 = norm(%2, axis="dim")
%4 = seq_step()
%5 = mul(%3, %4)
score = %5
)",
                                {16, 64, 3});
  static ir::OpDef reduction = ir::op_named("norm"), source = ir::op_named("seq_step");
  reduction.name = "largest_square";
  source.name = "half_step";
  const auto exchange = [&] {
    for (ir::Node& node : plan.program.nodes) {
      if (node.op->name == "norm" || node.op == &reduction) node.op = &reduction;
      if (node.op->name == "seq_step" || node.op == &source) node.op = &source;
    }
  };
  exchange();
  EXPECT_NE(refusal(plan).find("a CUDA implementation of "), std::string::npos);
  reduction.cuda = "float value = 0.0f;";
  source.cuda = "0.5f * source_seq_step(c)";
  const std::string text = print_cuda(plan).text;
  const std::size_t primitive = text.find("struct reduce_largest_square {\n  float value = 0.0f;\n};");
  EXPECT_LT(primitive, text.find("__global__")) << text;
  EXPECT_NE(text.find("reduce_over<reduce_largest_square>("), std::string::npos) << text;
  EXPECT_NE(text.find(" = 0.5f * source_seq_step(c);"), std::string::npos) << text;
}

TEST(PrintCuda, SaysWhatAStageCannotHold) {
  const std::string body = R"(%0 = page_k()
%1 = softmax(%0, axis="token")
%2 = mean(%1, axis="dim")
%3 = max(%2, axis="token")
summary top = %3
%4 = summary(name="top")
score = %4
)";
  EXPECT_EQ(refusal(plan_of(body, {16, 64, 3})), "printed");
  EXPECT_EQ(refusal(plan_of(body, {128, 128, 3})),
            "[flow refused] at most 11264 numbers held at once in a stage are supported on CUDA; stage summarize holds "
            "16513; use a smaller page_size, or run the flow on the cpu");
}

}  // namespace
}  // namespace vortex::codegen
