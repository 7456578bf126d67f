// The CPU backend against the interpreter: every op in every place, and the ready flows, over geometries and chunks.
#include <gtest/gtest.h>
#include <vortex/error.h>

#include <algorithm>
#include <chrono>
#include <set>

#include "compiler/passes/schedule.h"
#include "harness.h"
#include "op_cases.h"
#include "support/flows.h"

namespace vortex::codegen {
namespace {

// Scores are float32 sums of some hundred terms; a wrong element is off by a hundred times this.
constexpr double kBound = 2e-5;

std::shared_ptr<const CpuFlow> build(const ir::Program& program, const ir::Geometry& geometry,
                                     std::vector<std::string> off = {}) {
  return CpuFlow::build(compiler::compile(
      program, geometry, {.disabled_passes = std::move(off), .keep_text = false, .verify_each = true}));
}

// "" or what is wrong. `off`: passes left out, so that the scores are those of the program as written.
std::string compare(const ir::Program& given, const ir::Geometry& geometry, std::int64_t candidates, unsigned seed,
                    std::vector<std::string> off) {
  const ir::Program program = with_numbers(given, geometry);
  const bool as_written = std::find(off.begin(), off.end(), "canonicalize") != off.end();
  auto flow = build(program, geometry, std::move(off));
  Harness harness(flow, candidates, seed);
  for (const Harness::SummaryPair& pair : harness.pairs) {
    if (std::isnan(pair.exact) && std::isnan(pair.stored)) continue;
    if (pair.exact == pair.stored) continue;
    const bool narrow = program.config.summary_dtype == ir::DType::bf16;
    if (!(std::abs(pair.exact - pair.stored) <=
          (narrow ? 0x1p-8 : 1e-6) * std::abs(pair.exact) + (narrow ? 2e-6 : 1e-5)))
      return concat("summary ", pair.name, " is ", pair.stored, " and should be ", pair.exact);
  }
  const std::vector<float> came = harness.scores();
  const double error = normalised_error(came, harness.reference(as_written ? program : flow->plan().program));
  if (!(error <= kBound))
    return concat("normalised error ", error, " at ", candidates, " candidates\n", print(flow->plan()));
  if (as_written)
    for (const auto& [name, expected] : harness.reference_states(program))
      if (const double off_by = normalised_error(harness.last_states.at(name), expected); !(off_by <= kBound))
        return concat("the state ", name, " is off by ", off_by, " at ", candidates, " candidates\n",
                      print(flow->plan()));
  if (program.rest_logit >= 0) {
    const ir::Rest rest = harness.reference_rest(program);
    std::vector<double> expected = rest.logit;
    expected.insert(expected.end(), rest.value.begin(), rest.value.end());
    for (std::size_t head = 0; head < rest.logit.size(); ++head)
      if (std::isinf(rest.logit[head])) {  // nothing is left: the value means nothing
        if (harness.last_rest[head] != -INFINITY) return concat("a rest of ", harness.last_rest[head], " of nothing");
        return "";
      }
    if (const double off_by = normalised_error(harness.last_rest, expected); !(off_by <= kBound))
      return concat("the rest is off by ", off_by, " at ", candidates, " candidates\n", print(flow->plan()));
  }
  // Chunk boundaries change no bit.
  for (std::int64_t chunk : {1, 7, 64, 100}) {
    if (chunk >= candidates) continue;
    const std::vector<float> cut = harness.scores(chunk);
    for (std::size_t i = 0; i < cut.size(); ++i)
      if (std::bit_cast<std::uint32_t>(cut[i]) != std::bit_cast<std::uint32_t>(came[i]) && !std::isnan(cut[i]))
        return concat("chunks of ", chunk, " change the score of candidate ", i);
  }
  return "";
}

TEST(CpuFlow, EveryOpInEveryPlaceEqualsTheInterpreter) {
  std::set<std::string> seen;
  for (const OpCase& at : op_cases()) {
    seen.insert(at.op);
    const std::vector<std::string> as_written = {"canonicalize"},
                                   plain = {"canonicalize", "facts", "contract", "common"};
    EXPECT_EQ(compare(at.program, {16, 64, 3}, 1, 11, as_written), "") << at.name;
    EXPECT_EQ(compare(at.program, {16, 64, 3}, 40, 12, plain), "") << at.name;
    ir::Program wide = at.program;
    wide.config.summary_dtype = ir::DType::f32;
    EXPECT_EQ(compare(wide, {16, 64, 3}, 40, 14, as_written), "") << at.name << ", summaries in f32";
    for (std::int64_t candidates : {0, 40, 300})
      EXPECT_EQ(compare(at.program, {4, 20, 2}, candidates, 13, as_written), "") << at.name;
  }
  for (const ir::OpDef* op : ir::all_ops()) EXPECT_TRUE(seen.count(op->name)) << op->name << " has no case";
}

TEST(CpuFlow, ReadyFlowsEqualTheInterpreterInEveryGeometry) {
  for (const ir::Program& flow : {centroid_flow(), quest_flow(), deviation_flow(), oracle_flow(), random_flow()}) {
    for (const ir::Geometry& geometry : {ir::Geometry{16, 64, 3}, ir::Geometry{16, 128, 6}, ir::Geometry{1, 96, 1},
                                         ir::Geometry{128, 80, 4}, ir::Geometry{32, 256, 8}, ir::Geometry{8, 33, 5}}) {
      const std::int64_t candidates = geometry.page_size * geometry.head_dim > 2048 ? 17 : 129;
      EXPECT_EQ(compare(flow, geometry, candidates, 5, {}), "") << flow.name << " head_dim " << geometry.head_dim;
      EXPECT_EQ(compare(flow, geometry, 1, 5, {"canonicalize"}), "") << flow.name;
    }
  }
}

TEST(CpuFlow, AFlowOfEveryKindOfOp) {
  for (const testing::NamedFlow& named : {testing::everything_flow(), testing::mean_deviation_flow()}) {
    const ir::Program program = ir::parse(named.text("budget=8"));
    EXPECT_EQ(compare(program, {16, 64, 3}, 140, 17, {}), "") << named.name;
    EXPECT_EQ(compare(program, {8, 24, 2}, 33, 18, {"canonicalize"}), "") << named.name;
  }
}

TEST(CpuFlow, SummariesMayBeFloat32) {
  for (ir::Program flow : {centroid_flow(), quest_flow(), oracle_flow()}) {
    flow.config.summary_dtype = ir::DType::f32;
    EXPECT_EQ(compare(flow, {16, 64, 3}, 200, 3, {}), "") << flow.name;
    EXPECT_EQ(compare(flow, {8, 50, 2}, 20, 3, {}), "") << flow.name;
  }
}

TEST(CpuFlow, RanksPagesAsTheProgramDoes) {
  for (const ir::Program& program : {centroid_flow(), quest_flow(), deviation_flow()}) {
    for (std::int64_t group : {1, 3}) {
      auto flow = build(program, {16, 64, group});
      Harness harness(flow, 250, 21);
      const std::vector<float> came = harness.scores();
      const std::vector<double> expected = harness.reference(program);
      std::vector<std::size_t> order(came.size());
      for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
      std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return came[a] > came[b]; });
      for (std::size_t i = 1; i < order.size(); ++i)
        EXPECT_GE(expected[order[i - 1]], expected[order[i]] * (1 - 1e-4)) << program.name << " group " << group;
    }
  }
}

TEST(CpuFlow, FirstScoreOfANewFlowTakesMilliseconds) {
  build(quest_flow(), {16, 64, 3});
  double best = 1e9;
  for (int attempt = 0; attempt < 20; ++attempt) {
    const auto begin = std::chrono::steady_clock::now();
    auto flow = build(deviation_flow(), {16, 64, 3});
    best = std::min(best, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    EXPECT_EQ(flow->page_stages(), 2);
  }
  RecordProperty("milliseconds", std::to_string(best));
  EXPECT_LT(best, 5.0);
}

// A flow whose score goes through an op that this backend does not know.
std::string refused(const ir::OpDef& op, ir::Attributes attributes) {
  ir::Program program;
  program.name = "Strange";
  program.config.budget = 3;
  const ir::SourceLocation location{"strange.py", 4};
  auto make = [&](const char* name, std::vector<ir::ValueId> inputs, ir::Attributes settings = {}) {
    return ir::append(program, ir::op_named(name), std::move(inputs), std::move(settings), location);
  };
  ir::ValueId logits = make("mul", {make("q", {}), make("page_index", {})});
  ir::ValueId strange = ir::append(program, op, {logits}, std::move(attributes), location);
  while (!program.node(strange).type.axes.empty())
    strange = make("sum", {strange}, {{"axis", program.node(strange).type.axes[0].name}});
  program.score = strange;
  try {
    CpuFlow::build(compiler::Plan{program, {16, 64, 3}, compiler::schedule(program, {16, 64, 3}), {}});
  } catch (const UserError& error) {
    return error.what();
  }
  return "built";
}

TEST(CpuFlow, AnOpWithoutAnImplementationIsRefusedInWords) {
  ir::OpDef map = ir::op_named("exp");
  map.name = "gamma";
  map.tile = "";
  EXPECT_EQ(refused(map, {}),
            "[strange.py:4] every op of a flow must have a CPU implementation; gamma has no CPU implementation for "
            "f32[head, dim] @page; write it with other ops");
  ir::OpDef along = ir::op_named("cumsum");
  along.name = "sort";
  along.tile = "sort";
  EXPECT_EQ(refused(along, {{"axis", std::string("dim")}}),
            "[strange.py:4] every op of a flow must have a CPU implementation; sort over \"dim\" has no CPU "
            "implementation for f32[head, dim] @page; write it with other ops");
  EXPECT_EQ(refused(along, {{"axis", std::string("page")}}),
            "[strange.py:4] every op of a flow must have a CPU implementation; sort over \"page\" has no CPU "
            "implementation for f32[head, dim] @page; write it with other ops");
}

TEST(CpuFlow, AValueTooLargeForScratchIsRefusedInWords) {
  ir::Program program;
  program.config.budget = 3;
  const ir::SourceLocation location{"large.py", 9};
  auto make = [&](const char* name, std::vector<ir::ValueId> inputs, ir::Attributes settings = {}) {
    return ir::append(program, ir::op_named(name), std::move(inputs), std::move(settings), location);
  };
  ir::ValueId q = make("q", {});
  ir::ValueId other = make("rename", {q}, {{"axis", std::string("dim")}, {"to", std::string("other")}});
  ir::ValueId outer = make("mul", {make("mul", {q, make("page_index", {})}), other});
  ir::ValueId score = make("exp", {outer});
  for (const char* axis : {"dim", "other", "head"}) score = make("max", {score}, {{"axis", std::string(axis)}});
  program.score = score;
  try {
    build(program, {16, 512, 3});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[large.py:9] a value has at most 262144 elements a page; f32[head, other=dim, dim] @page "
                 "has 786432; reduce an axis first");
  }
}

// What building the flow says, and how long that took is bounded by the test's own time limit.
std::string refusal(const ir::Program& program, const ir::Geometry& geometry) {
  try {
    build(program, geometry);
  } catch (const UserError& error) {
    return error.what();
  }
  return "built";
}

struct Maker {
  ir::Program program;
  ir::ValueId operator()(const char* name, std::vector<ir::ValueId> inputs, ir::Attributes settings = {}) {
    return ir::append(program, ir::op_named(name), std::move(inputs), std::move(settings), {"hostile.py", 3});
  }
};

TEST(CpuFlow, RefusesTooManyElementsTogether) {
  Maker make;
  make.program.config.budget = 3;
  ir::ValueId value = make("page_k", {});
  for (int i = 0; i < 1000; ++i) value = make(i % 2 ? "tanh" : "exp", {value});
  value = make("mean", {value}, {{"axis", std::string("token")}});
  make.program.summaries.push_back({"deep", make("mean", {value}, {{"axis", std::string("dim")}})});
  make.program.score = make("summary", {}, {{"name", std::string("deep")}});
  EXPECT_EQ(refusal(make.program, {128, 1024, 1}),
            "[hostile.py:3] the values of a flow have at most 2097152 elements a page together; f32[token, dim] @page "
            "brings them to 2228224; reduce axes earlier");
  EXPECT_EQ(refusal(make.program, {16, 32, 1}), "built");
}

TEST(CpuFlow, RefusesTooMuchKeptBetweenStages) {
  Maker make;
  make.program.config.budget = 3;
  ir::ValueId value = make("mul", {make("q", {}), make("page_index", {})});
  value = make("softmax", {make("exp", {value})}, {{"axis", std::string("page")}});
  for (const char* axis : {"dim", "head"}) value = make("max", {value}, {{"axis", std::string(axis)}});
  make.program.score = value;
  EXPECT_EQ(refusal(make.program, {16, 512, 16}),
            "[hostile.py:3] what is kept of a page from stage to stage has at most 4096 elements; f32[head, dim] @page "
            "brings it to 8192; reduce an axis before the op over \"page\"");
  EXPECT_EQ(refusal(make.program, {16, 64, 8}), "built");
}

TEST(CpuFlow, RefusesTooMuchScratchAtOneTime) {
  Maker make;
  make.program.config.budget = 3;
  const ir::ValueId q = make("q", {}), index = make("page_index", {});
  std::vector<ir::ValueId> alive;
  for (int i = 0; i < 9; ++i)
    alive.push_back(make("exp", {make("mul", {q, make("add", {index, make("constant", {}, {{"value", i + 0.5}})})})}));
  ir::ValueId sum = alive[0], value = alive[0];
  for (ir::ValueId one : alive) sum = make("tanh", {make("add", {sum, one})});
  for (ir::ValueId one : alive) value = make("maximum", {value, make("mul", {one, sum})});
  for (const char* axis : {"dim", "head"}) value = make("max", {value}, {{"axis", std::string(axis)}});
  make.program.score = value;
  EXPECT_EQ(refusal(make.program, {16, 1024, 32}),
            "[flow ] the values that a stage needs at one time have at most 262144 elements a page; 393218; reduce "
            "axes earlier");
  EXPECT_EQ(refusal(make.program, {16, 64, 8}), "built");
}

TEST(CpuFlow, AFlowWithoutScoreHasNoStages) {
  ir::Program program;
  program.config.budget = 3;
  auto flow = build(program, {16, 64, 3});
  EXPECT_EQ(flow->page_stages(), 0);
  EXPECT_TRUE(flow->fields().empty());
}

}  // namespace
}  // namespace vortex::codegen
