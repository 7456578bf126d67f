// The C++ flow language: the example of its header gives the program that append gives.
#include <gtest/gtest.h>
#include <vortex/error.h>
#include <vortex/flow.h>

#include <functional>

#include "example.h"

namespace vortex::flow {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

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

// The ready flow `hysteresis`, with sets shared by layers, as C++ says it. tests/python/test_state.py holds the same
// hash of the Python file.
TEST(Flow, StateAndSharedSetsAsInPython) {
  Flow flow("Hysteresis");
  flow.set("budget", "32");
  flow.set("reuse", "1:0,3:2");
  flow.summarize("mean", flow.k().mean("token"));
  Value score = dot(flow.q(), flow.summary("mean"), "dim").softmax("page").sum("head");
  Value held = flow.page_keep("held", 0.0);
  EXPECT_EQ(held.type(), "f32[] @page");
  Value chosen = top_k(score * (1.0 + 0.5 * held), flow.source("seq_left"));
  held.set(where(chosen, 1.0, 0.0));
  flow.select(chosen);
  EXPECT_EQ(flow.hash(), "78955b293290818d");
  EXPECT_EQ(ir::parse(flow.text()), flow.finish());
  EXPECT_EQ(ir::from_json(flow.json()), flow.finish());
  EXPECT_EQ(flow.seq_keep("top", -1.0, "head, sub=4").type(), "f32[head, sub=4] @row");
}

// Likewise: the first two layers attend the pinned pages.
TEST(Flow, FlowsForSomeLayersAsInPython) {
  Flow flow("Index"), pinned("Pinned");
  flow.set("budget", "8");
  flow.score(flow.source("page_index"));
  flow.layers("0-1", pinned);
  EXPECT_EQ(flow.hash(), "8050558513611708");
  EXPECT_EQ(ir::parse(flow.text()), flow.finish());
  EXPECT_EQ(ir::from_json(flow.json()), flow.finish());
  EXPECT_EQ(message_of([&] { flow.layers("1", pinned); }),
            "[flow Index] a layer has one flow; layer 1 with Pinned and Pinned; leave one out");
}

// Likewise, without numbers: tests/python/test_param.py.
TEST(Flow, LearnedParametersAsInPython) {
  Flow flow("Learned");
  flow.set("budget", "6");
  flow.weights("learned.safetensors");
  flow.summarize("low", dot(flow.k().mean("token"), flow.param("wk", "dim, low=4"), "dim"));
  const Value low = dot(flow.q(), flow.param("wq", "dim, low=4"), "dim");
  flow.score(dot(low, flow.summary("low"), "low").softmax("page").sum("head"));
  EXPECT_EQ(flow.hash(), "b1c16e6b9813a753");
  EXPECT_EQ(ir::parse(flow.text()), flow.finish());
  EXPECT_EQ(ir::from_json(flow.json()), flow.finish());
  Flow elsewhere("Elsewhere");
  elsewhere.weights("../w.safetensors");
  EXPECT_EQ(
      message_of([&] { elsewhere.finish(); }),
      "[flow Elsewhere] weights name a file beside the flow, without a folder; \"../w.safetensors\"; lay the file "
      "beside the flow, or give it as a setting: weights=PATH");
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
  EXPECT_EQ(message_of([&] {
              flow.q().set(1.0, {"my.cpp", 8});
            }),
            "[my.cpp:8] only a state is set: what page.keep or seq.keep gave; a value f32[head, dim] @row; keep what "
            "keep() returns in a variable, and set that");
  EXPECT_EQ(
      message_of([&] { flow.page_keep("a", 0.0).set(other.q()); }),
      "[set] a state is set to a value of its flow; a value of another flow; use values of the flow being traced");
  EXPECT_EQ(message_of([&] { flow.set("bugdet", "3"); }),
            "[flow config] a setting of a flow: page_size, budget, budget_ratio, sinks, recent, full_attention_layers, "
            "summary_dtype, reuse, refresh_every; \"bugdet\"; "
            "did you mean \"budget\"?");
}

}  // namespace
}  // namespace vortex::flow
