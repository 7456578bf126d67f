// The C++ flow language: the example of its header gives the program that append gives.
#include <gtest/gtest.h>
#include <vortex/error.h>
#include <vortex/flow.h>

#include <functional>

#include "example.h"

namespace vortex::flow {
namespace {

TEST(Flow, QuestAsInTheHeader) {
  Flow flow("Quest");
  flow.set("budget", "32");
  Value k = flow.k();
  flow.summarize("lo", k.min("token"));
  flow.summarize("hi", k.max("token"));
  Value bound = maximum(flow.q() * flow.summary("lo"), flow.q() * flow.summary("hi")).sum("dim");
  EXPECT_EQ(bound.type(), "f32[head] @page");
  flow.score(bound.softmax("page").sum("head"));
  EXPECT_EQ(flow.hash(), ir::canonical_hash(ir::quest()));
  EXPECT_EQ(ir::parse(flow.text()), flow.finish());
  EXPECT_EQ(ir::from_json(flow.json()), flow.finish());
}

TEST(Flow, NumbersBecomeConstantsAndEveryOpIsThereByName) {
  Flow flow("Numbers");
  flow.set("budget", "4");
  Value index = flow.source("page_index");
  Value x = 2 - index / 3.0;
  flow.score(where(index > 1, apply("clamp", {x}, {{"low", -1.0}, {"high", 1.0}}), random(index, 7)));
  EXPECT_NE(ir::print(flow.finish()).find("clamp(%4, low=-1, high=1) : f32[] @page"), std::string::npos)
      << ir::print(flow.finish());
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Flow, ErrorsSayWhere) {
  Flow flow("One"), other("Other");
  EXPECT_EQ(message_of([&] { flow.q() + other.q(); }),
            "[add] the operands of an op belong to one flow; values of two flows; use values of the flow being traced");
  EXPECT_EQ(message_of([&] { exp(1.0); }),
            "[exp] exp needs a value of a flow; plain numbers; compute with plain numbers in C++ itself");
  EXPECT_EQ(
      message_of([&] {
        apply("sum", {flow.q()}, {{"axis", "dims"}}, {"my.cpp", 7});
      }),
      "[my.cpp:7] the value must have the axis \"dims\"; a value of type f32[head, dim] @row; did you mean \"dim\"?");
  EXPECT_EQ(message_of([&] { flow.summary("lo"); }),
            "[flow One] page.lo must be a summary; the flow declares no summaries; assign page.lo in summarize");
  EXPECT_EQ(message_of([&] { flow.set("bugdet", "3"); }),
            "[flow config] a setting of a flow: page_size, budget, budget_ratio, sinks, recent, full_attention_layers, "
            "summary_dtype; \"bugdet\"; "
            "did you mean \"budget\"?");
}

}  // namespace
}  // namespace vortex::flow
