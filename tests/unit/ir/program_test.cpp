// Building, printing and verifying programs.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <cmath>
#include <functional>

#include "example.h"
#include "ir/interpret.h"

namespace vortex::ir {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Program, PrintsAsText) {
  EXPECT_EQ(print(quest()), R"(vortex_ir 1
flow "Quest"
doc "An upper bound of q·k over each page."
source "quest.py"
config page_size=16 budget=32 budget_ratio=0 sinks=1 recent=2 full_attention_layers=none summary_dtype=bf16
%0 = page_k() : f32[token, dim] @page ; 8
%1 = min(%0, axis="token") : f32[dim] @page ; 8
summary lo = %1
%2 = max(%0, axis="token") : f32[dim] @page ; 9
summary hi = %2
%3 = q() : f32[head, dim] @row ; 12
%4 = summary(name="lo") : f32[dim] @page ; 12
%5 = mul(%3, %4) : f32[head, dim] @page ; 12
%6 = summary(name="hi") : f32[dim] @page ; 12
%7 = mul(%3, %6) : f32[head, dim] @page ; 12
%8 = maximum(%5, %7) : f32[head, dim] @page ; 12
%9 = sum(%8, axis="dim") : f32[head] @page ; 12
%10 = softmax(%9, axis="page") : f32[head] @page ; 13
%11 = sum(%10, axis="head") : f32[] @page ; 13
score = %11
)");
}

TEST(Program, VerifiesTheExample) { EXPECT_NO_THROW(verify(quest())); }

TEST(Program, ANameIsOneLine) {
  auto words = [](const std::string& name) -> std::string {
    Program p = quest();
    p.name = name;
    try {
      verify(p);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_EQ(words("Größe 2"), "accepted");
  EXPECT_EQ(
      words("quest\n#include"),
      "[flow] the name of a flow is one line of at most 200 bytes; control characters in it; choose another name");
  EXPECT_EQ(words(std::string(201, 'q')),
            "[flow] the name of a flow is one line of at most 200 bytes; 201 bytes; choose another name");
}

TEST(Program, AMisspeltAxisIsNamed) {
  Program p = quest();
  EXPECT_EQ(message_of([&] {
              append(p, op_named("sum"), {3}, {{"axis", "dmi"}}, {"quest.py", 20});
            }),
            "[quest.py:20] the value must have the axis \"dmi\"; a value of type f32[head, dim] @row; did you mean "
            "\"dim\"?");
}

// As long as a program may be: reading, verifying and canonicalizing stay within the stack.
TEST(Program, TheLongestChainIsHandled) {
  Program p;
  p.name = "long";
  p.config.budget = 4;
  ValueId value = append(p, op_named("page_index"), {}, {}, {});
  while (p.nodes.size() < kMaxNodes) value = append(p, op_named("relu"), {value}, {}, {});
  p.score = value;
  verify(p);
  EXPECT_EQ(parse(print(p)), p);
  EXPECT_EQ(canonicalize(p).nodes.size(), kMaxNodes);
  append(p, op_named("relu"), {value}, {}, {});
  EXPECT_EQ(message_of([&] { verify(p); }), "[flow long] a flow has at most 4096 values; 4097; simplify the flow");
}

// A factor at the bottom of a long chain rebuilds the whole chain.
TEST(Program, AFactorBelowALongChainGoes) {
  Program p;
  p.config.budget = 4;
  ValueId index = append(p, op_named("page_index"), {}, {}, {});
  ValueId value =
      append(p, op_named("mul"), {index, append(p, op_named("constant"), {}, {{"value", 2.0}}, {})}, {}, {});
  while (p.nodes.size() < kMaxNodes) value = append(p, op_named("relu"), {value}, {}, {});
  p.score = value;
  EXPECT_EQ(canonicalize(p).nodes.size(), kMaxNodes - 2);
}

TEST(Interpreter, ScoresQuestByHand) {
  Program p = quest();
  Environment environment{.geometry = {.page_size = 2, .head_dim = 2, .group = 1}};
  Tensor k{{2, 2}, {1, -2, 3, 4}};
  std::map<std::string, Tensor> one = interpret_summaries(p, environment, k, k);
  EXPECT_EQ(one["lo"].data, (std::vector<double>{1, -2}));
  EXPECT_EQ(one["hi"].data, (std::vector<double>{3, 4}));
  std::map<std::string, Tensor> summaries{{"lo", {{2, 2}, {1, -2, 0, 0}}}, {"hi", {{2, 2}, {3, 4, 0, 0}}}};
  std::vector<double> scores = interpret_scores(p, environment, {{1, 2}, {1, -1}}, summaries, {1, 2});
  // bounds: max(1, 3) + max(2, -4) = 5 and 0
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_NEAR(scores[0], 1.0 / (1.0 + std::exp(-5.0)), 1e-15);
  EXPECT_NEAR(scores[0] + scores[1], 1.0, 1e-15);
}

TEST(Selection, PinsAndPrefersLowerIndices) {
  FlowConfig config{.budget = 5, .sinks = 1, .recent = 2};
  std::vector<std::int64_t> candidates = candidates_of(config, 8);
  EXPECT_EQ(candidates, (std::vector<std::int64_t>{1, 2, 3, 4, 5}));
  EXPECT_EQ(interpret_selection(config, 8, candidates, {1, std::nan(""), 2, 1, 1}),
            (std::vector<std::int64_t>{0, 1, 3, 6, 7}));
  EXPECT_EQ(interpret_selection(config, 8, candidates, {}), (std::vector<std::int64_t>{0, 6, 7}));
  EXPECT_EQ(interpret_selection(config, 2, {}, {}), (std::vector<std::int64_t>{0, 1}));
  EXPECT_EQ(interpret_selection(config, 5, candidates_of(config, 5), {}), (std::vector<std::int64_t>{0, 1, 2, 3, 4}))
      << "a budget that covers all is full attention, with a score or without";
}

}  // namespace
}  // namespace vortex::ir
