// The passes: their list, what may be switched off, what is refused, and that no pass changes what a program computes.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <cmath>

#include "compiler/passes/facts.h"
#include "compiler/passes/schedule.h"
#include "compiler/plan.h"
#include "support/flows.h"
#include "unit/ir/random_program.h"

namespace vortex::compiler {
namespace {

ir::Program flow(const testing::NamedFlow& named) { return ir::parse(named.text("budget=8")); }

std::string message(const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Passes, RunInOneOrderAndSayWhatTheyDid) {
  EXPECT_EQ(pass_names(), (std::vector<std::string>{"bind", "canonicalize", "rest", "facts", "split", "contract",
                                                    "common", "schedule"}));
  Plan plan = compile(flow(testing::quest_flow()), {16, 64, 3},
                      {.disabled_passes = {}, .keep_text = true, .verify_each = true});
  ASSERT_EQ(plan.passes.size(), pass_names().size());
  for (std::size_t i = 0; i < plan.passes.size(); ++i) {
    EXPECT_EQ(plan.passes[i].name, pass_names()[i]);
    EXPECT_GE(plan.passes[i].microseconds, 0);
    EXPECT_FALSE(plan.passes[i].text.empty());
  }
  EXPECT_FALSE(plan.passes[0].changed) << "bind has nothing to do for a group of three";
  EXPECT_TRUE(plan.passes[3].changed) << "lo and hi are ordered";
}

TEST(Passes, SwitchedOffByName) {
  Plan plan = compile(flow(testing::quest_flow()), {16, 64, 3}, {.disabled_passes = {"facts"}});
  EXPECT_EQ(plan.passes.size(), pass_names().size() - 1);
  EXPECT_EQ(message([] {
              compile(flow(testing::quest_flow()), {16, 64, 3}, {.disabled_passes = {"fact"}});
            }),
            "[compile] disabled passes must be among canonicalize, facts, contract, common; \"fact\"; did you mean "
            "\"facts\"?");
  EXPECT_EQ(
      message([] {
        compile(flow(testing::quest_flow()), {16, 64, 3}, {.disabled_passes = {"schedule"}});
      }),
      "[compile] disabled passes must be among canonicalize, facts, contract, common; \"schedule\"; leave it out");
}

TEST(Passes, AFlowThatDoesNotFitTheModelIsRefused) {
  ir::Program program;
  auto add = [&](const char* op, std::vector<ir::ValueId> inputs, ir::Attributes attributes = {}) {
    return ir::append(program, ir::op_named(op), std::move(inputs), std::move(attributes), {"half.py", 7});
  };
  ir::ValueId cut = add("split", {add("page_k", {})}, {{"axis", "token"}, {"name", "sub"}, {"size", std::int64_t{12}}});
  ir::declare_summary(program, "c", add("mean", {cut}, {{"axis", "sub"}}), {"half.py", 7});
  ir::ValueId c = add("summary", {}, {{"name", "c"}});
  program.score = add("sum", {add("max", {add("dot", {add("q", {}), c}, {{"over", "dim"}})}, {{"axis", "token"}})},
                      {{"axis", "head"}});
  const std::string words = message([&] { compile(program, {16, 64, 3}); });
  EXPECT_EQ(words.substr(0, 11), "[half.py:7]") << words;
  EXPECT_EQ(message([&] { compile(program, {24, 64, 3}); }), "no error");
}

TEST(Passes, QuestHasNoElementwiseLoopOverDimOnPages) {
  for (std::int64_t group : {2, 3, 8}) {
    Plan plan = compile(flow(testing::quest_flow()), {16, 64, group});
    int contractions = 0;
    for (const Stage& stage : plan.stages) {
      if (stage.kind != StageKind::page) continue;
      for (ir::ValueId id : stage.nodes) {
        const ir::Node& node = plan.program.node(id);
        contractions += node.op->kind == ir::OpKind::contraction && ir::axis_of(node) == "dim";
        if (node.op->kind != ir::OpKind::elementwise) continue;
        EXPECT_EQ(ir::find_axis(node.type, "dim"), nullptr) << print(plan);
      }
    }
    EXPECT_EQ(contractions, 2);
  }
}

TEST(Passes, FactsHoldOnlyWhereTheyAreKnown) {
  auto ordered = [](const std::string& low, const std::string& high, const std::string& second) {
    ir::Program p = ir::parse("vortex_ir 1\nflow \"t\"\nconfig budget=8\n%0 = page_k()\n%1 = page_v()\n%2 = " + low +
                              "(%0, axis=\"token\")\n%3 = " + high + "(" + second +
                              ", axis=\"token\")\nsummary a = %2\nsummary b = %3\n%4 = summary(name=\"a\")\n%5 = "
                              "summary(name=\"b\")\n%6 = add(%4, %5)\n%7 = sum(%6, axis=\"dim\")\nscore = %7\n");
    return std::make_pair(is_ordered(p, 4, 5), is_ordered(p, 5, 4));
  };
  EXPECT_EQ(ordered("min", "max", "%0"), std::make_pair(true, false));
  EXPECT_EQ(ordered("max", "min", "%0"), std::make_pair(false, true));
  EXPECT_EQ(ordered("min", "max", "%1"), std::make_pair(false, false)) << "of another value";
  EXPECT_EQ(ordered("mean", "max", "%0"), std::make_pair(false, false));
  EXPECT_EQ(ordered("min", "min", "%0"), std::make_pair(false, false));
}

// A value that is read twice by each of sixty values has 2^60 paths to it: no pass may walk them all.
TEST(Passes, ValuesReadManyTimesAreVisitedOnce) {
  ir::Program program;
  auto add = [&](const char* op, std::vector<ir::ValueId> inputs, ir::Attributes attributes = {}) {
    return ir::append(program, ir::op_named(op), std::move(inputs), std::move(attributes), {"deep.py", 1});
  };
  auto deep = [&](const char* op, ir::ValueId value) {
    for (int i = 0; i < 60; ++i) value = add(op, {value, value});
    return value;
  };
  for (const char* edge : {"min", "max"})
    ir::declare_summary(program, edge, add(edge, {add("page_k", {})}, {{"axis", "token"}}), {"deep.py", 1});
  ir::ValueId q = add("q", {}), low = add("summary", {}, {{"name", "min"}}),
              high = add("summary", {}, {{"name", "max"}});
  // facts asks for the sign of the factor, contract for the terms of the sums.
  ir::ValueId factor = deep("add", add("abs", {q}));
  ir::ValueId bound = add("maximum", {add("mul", {factor, low}), add("mul", {factor, high})});
  ir::ValueId total = add("sum", {add("sum", {bound}, {{"axis", "dim"}})}, {{"axis", "head"}});
  for (const char* op : {"add", "mul"}) {
    ir::ValueId sums = add("sum", {deep(op, add("mul", {q, low}))}, {{"axis", "dim"}});
    total = add("add", {total, add("sum", {sums}, {{"axis", "head"}})});
  }
  // schedule asks what a second pass over the pages waits for.
  ir::ValueId shares = deep("add", add("softmax", {total}, {{"axis", "page"}}));
  program.score = add("mul", {shares, add("sum", {shares}, {{"axis", "page"}})});
  program.config.budget = 8;
  ir::verify(program);
  EXPECT_FALSE(compile(program, {16, 64, 3}).stages.empty());
}

// The compiled program computes what the program computes: in double, up to reassociation.
class RandomPasses : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Quick, RandomPasses, ::testing::Values(200));
INSTANTIATE_TEST_SUITE_P(Slow, RandomPasses, ::testing::Values(3000));

TEST_P(RandomPasses, KeepTheScores) {
  int compared = 0, changed = 0;
  for (int i = 0; i < GetParam(); ++i) {
    const ir::Program program = ir::RandomProgram(static_cast<std::uint64_t>(i), 2 + i % 28).program();
    Plan plan =
        compile(program, ir::kSmall, {.disabled_passes = {"canonicalize"}, .keep_text = false, .verify_each = true});
    ir::RandomInputs inputs(static_cast<std::uint64_t>(i));
    const std::vector<double> before = inputs.scores(program), after = inputs.scores(plan.program);
    for (const PassReport& pass : plan.passes)
      if (pass.name == "contract" || pass.name == "facts" || pass.name == "split") changed += pass.changed;
    double size = 0;
    bool finite = true;
    for (std::size_t p = 0; p < before.size(); ++p) {
      size = std::max(size, std::abs(before[p]));
      finite = finite && std::isfinite(before[p]);
    }
    if (!finite) continue;
    ++compared;
    for (std::size_t p = 0; p < before.size(); ++p)
      ASSERT_NEAR(before[p], after[p], 1e-7 * size) << "seed " << i << " page " << p << "\n"
                                                    << ir::print(program) << ir::print(plan.program);
  }
  EXPECT_GT(compared, GetParam() / 2);
  EXPECT_GT(changed, GetParam() / 8);
}

// Every value is made before it is read, and what a stage reads was handed over.
TEST(Schedule, StagesAreClosed) {
  for (int i = 0; i < 300; ++i) {
    Plan plan = compile(ir::RandomProgram(static_cast<std::uint64_t>(i), 2 + i % 28).program(), ir::kSmall);
    std::vector<bool> handed(plan.program.nodes.size(), false);
    for (std::size_t s = 0; s < plan.stages.size(); ++s) {
      const Stage& stage = plan.stages[s];
      std::vector<bool> here(plan.program.nodes.size(), false);
      for (ir::ValueId input : stage.inputs) {
        ASSERT_TRUE(handed[static_cast<std::size_t>(input)]) << print(plan);
        here[static_cast<std::size_t>(input)] = true;
      }
      for (ir::ValueId id : stage.nodes) {
        const bool again =
            is_read_again(plan.program, id);  // its source is at hand anywhere, the list of its set is not
        for (ir::ValueId input : plan.program.node(id).inputs)
          ASSERT_TRUE((again && is_read_again(plan.program, input)) || here[static_cast<std::size_t>(input)])
              << "%" << input << "\n"
              << print(plan);
        here[static_cast<std::size_t>(id)] = true;
      }
      for (ir::ValueId output : stage.outputs) {
        ASSERT_TRUE(here[static_cast<std::size_t>(output)]) << print(plan);
        handed[static_cast<std::size_t>(output)] = stage.kind != StageKind::summarize;
      }
    }
    const Stage& last = plan.stages.back();
    ASSERT_EQ(last.kind, StageKind::page);
    const ir::Program& made = plan.program;
    ASSERT_EQ(last.outputs, std::vector<ir::ValueId>{made.selection >= 0 ? made.selection : made.score});
  }
}

}  // namespace
}  // namespace vortex::compiler
