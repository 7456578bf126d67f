// The price of a flow, counted by hand beside it.
#include "compiler/price.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include "ir/op.h"

namespace vortex::compiler {
namespace {

// A centroid of the keys, dotted with every head, softmaxed over pages, summed over heads.
ir::Program centroid(std::int64_t budget) {
  ir::Program p;
  p.name = "Centroid";
  p.config.budget = budget;
  auto add = [&](const char* op, std::vector<ir::ValueId> inputs, ir::Attributes attributes = {}) {
    return ir::append(p, ir::op_named(op), std::move(inputs), std::move(attributes), {"c.py", 1});
  };
  ir::declare_summary(p, "mean", add("mean", {add("page_k", {})}, {{"axis", "token"}}), {"c.py", 1});
  ir::ValueId dot = add("dot", {add("q", {}), add("summary", {}, {{"name", "mean"}})}, {{"over", "dim"}});
  p.score = add("sum", {dot}, {{"axis", "head"}});
  return p;
}

constexpr ir::Geometry kGeometry{.page_size = 16, .head_dim = 64, .group = 3};
constexpr Workload kWork{
    .layers = 30, .heads = 9, .kv_heads = 3, .head_dim = 64, .context = 4090, .batch = 8, .weight_bytes = 96'000'000};

TEST(Price, CountsWhatADecodeStepReads) {
  Price price = compiler::price(compile(centroid(32), kGeometry), kWork);
  EXPECT_EQ(price.pages, 256);
  EXPECT_EQ(price.candidates, 253);  // all but one sink and two recent ones, the open page among them
  EXPECT_EQ(price.attended_pages, 32);
  EXPECT_EQ(price.attended_tokens, 32 * 16 - 6);
  EXPECT_EQ(price.summary_bytes_per_page, 64 * 2);
  EXPECT_EQ(price.kv_bytes_per_page, 2 * 16 * 64 * 2);
  const double rows = 8 * 3 * 30;
  EXPECT_EQ(price.score_bytes, rows * 253 * 64 * 2);
  EXPECT_EQ(price.flat_score_bytes, price.score_bytes);
  EXPECT_EQ(price.attend_bytes, rows * 506 * 256);
  EXPECT_EQ(price.full_attention_bytes, rows * 4090 * 256);
  EXPECT_DOUBLE_EQ(price.attention_speedup(), 4090.0 * 256 / (506 * 256 + 253 * 128));
  EXPECT_DOUBLE_EQ(price.step_speedup(), (96e6 + rows * 4090 * 256) / (96e6 + rows * (506 * 256 + 253 * 128)));
  // At least the 2 · 3 · 64 operations of the contraction on every candidate; at most a few more per head.
  EXPECT_GE(price.score_operations, rows * 253 * (2 * 3 * 64));
  EXPECT_LE(price.score_operations, rows * 253 * (2 * 3 * 64 + 16) + rows * 1000);
  EXPECT_NEAR(price.loose_score_operations, price.score_operations - rows * 253 * (2 * 3 * 64), rows * 1000);
  EXPECT_GT(price.loose_score_operations, 0);
}

TEST(Price, AFullBudgetScoresNothing) {
  Price price = compiler::price(compile(centroid(256), kGeometry), kWork);
  EXPECT_EQ(price.candidates, 0);
  EXPECT_EQ(price.score_bytes + price.score_operations, 0);
  EXPECT_EQ(price.attend_bytes, price.full_attention_bytes);
  EXPECT_EQ(price.attention_speedup(), 1.0);
}

TEST(Price, FullAttentionLayersAttendAll) {
  ir::Program program = centroid(32);
  program.config.full_attention_layers = {0, 1, 2, 99};
  Price price = compiler::price(compile(program, kGeometry), kWork);
  EXPECT_EQ(price.score_bytes, 8.0 * 3 * 27 * 253 * 128);
  EXPECT_EQ(price.attend_bytes, 8.0 * 3 * 256 * (27 * 506 + 3 * 4090));
}

TEST(Price, WhatLayersAndStepsShareIsLeftOut) {
  ir::Program program = centroid(32);
  program.config.full_attention_layers = {0, 1, 2};
  program.config.reuse = {{4, 3}, {6, 5}};
  program.config.refresh_every = 4;
  Price price = compiler::price(compile(program, kGeometry), kWork);
  EXPECT_EQ(price.score_bytes, 8.0 * 3 * 25 * 253 * 128 / 4);
  EXPECT_EQ(price.flat_score_bytes, 8.0 * 3 * 27 * 253 * 128);
}

TEST(Price, ShortContextsAreFull) {
  Workload work = kWork;
  work.context = 1;
  Price price = compiler::price(compile(centroid(32), kGeometry), work);
  EXPECT_EQ(price.pages, 1);
  EXPECT_EQ(price.attended_tokens, 1);
  EXPECT_EQ(price.attention_speedup(), 1.0);
}

TEST(Price, AFlowWithoutScoresAttendsThePinnedPages) {
  ir::Program program = centroid(32);
  program.score = -1;
  Price price = compiler::price(compile(program, kGeometry), kWork);
  EXPECT_EQ(price.attended_pages, 3);
  EXPECT_EQ(price.candidates, 0);
  EXPECT_EQ(price.score_bytes + price.score_operations, 0);
  program.config.budget = 256;
  EXPECT_EQ(compiler::price(compile(program, kGeometry), kWork).attended_pages, 256) << "the budget covers all";
}

TEST(Price, RefusesAWorkloadThatCannotBe) {
  Plan plan = compile(centroid(32), kGeometry);
  auto words = [&](Workload work) -> std::string {
    try {
      price(plan, work);
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  };
  Workload work = kWork;
  work.batch = 0;
  EXPECT_EQ(words(work), "[price] batch from 1 to 1073741824; got 0; change the workload");
  work.batch = work.context = 1 << 30;
  EXPECT_EQ(words(work).substr(0, 52), "[price] a workload whose pool is at most 4e18 bytes;");
  work = kWork;
  work.kv_heads = 2;
  EXPECT_EQ(words(work), "[price] kv_heads that divides heads; got 2 of 9; change the workload");
  work = kWork;
  work.head_dim = 128;
  EXPECT_EQ(words(work),
            "[price] the plan's geometry, head_dim 64 and group 3; got head_dim 128 and group 3; change the workload");
}

}  // namespace
}  // namespace vortex::compiler
