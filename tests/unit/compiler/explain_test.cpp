// The roofline and the explained plan.
#include "compiler/explain.h"

#include <gtest/gtest.h>
#include <vortex/error.h>

#include "support/flows.h"

namespace vortex::compiler {
namespace {

constexpr Workload kWork{.layers = 30,
                         .heads = 9,
                         .kv_heads = 3,
                         .head_dim = 64,
                         .context = 7504,
                         .batch = 8,
                         .weight_bytes = 96'000'000,
                         .weights = 134'000'000};

Plan quest() { return compile(ir::parse(testing::quest_flow().text("budget=32")), {16, 64, 3}); }

TEST(Roofline, IsTheLongerOfBytesAndOperations) {
  const Price price = compiler::price(quest(), kWork);
  const Roofline bytes = roofline(price, {"bytes", 1e10, 0});
  EXPECT_DOUBLE_EQ(bytes.score, price.score_bytes / 1e10);
  EXPECT_DOUBLE_EQ(bytes.linears, 96e6 / 1e10);
  EXPECT_DOUBLE_EQ(bytes.speedup(), (96e6 + price.full_attention_bytes) /
                                        (96e6 + price.score_bytes + price.select_bytes + price.attend_bytes));
  const Roofline slow = roofline(price, {"slow", 1e30, 1e9});
  EXPECT_DOUBLE_EQ(slow.linears, 2.0 * 134e6 * 8 / 1e9);
  EXPECT_DOUBLE_EQ(slow.full_attention, price.full_attention_operations / 1e9);
  // Two operations for a channel of a key and of a value (4 bytes together), for each of three heads.
  EXPECT_DOUBLE_EQ(price.full_attention_operations, price.full_attention_bytes / 4 * 3 * 4);
}

TEST(Roofline, RefusesADeviceThatReadsNothing) {
  try {
    roofline(compiler::price(quest(), kWork), {"none", 0, 0});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_STREQ(error.what(),
                 "[roofline] a device that reads more than 0 bytes a second, and operations of 0 or more; got 0 and 0; "
                 "give what the device can do at most");
  }
}

TEST(Explain, SaysWhatEachStageReadsAndKeeps) {
  EXPECT_EQ(explain(quest(), kWork),
            R"(quest: 469 pages of 16 tokens a row, 466 candidates, 32 attended
summarize, once, when a page is full: reads 2.05 kB, keeps 256 B, 2.05 kop
  %1 = min(page_k, over token)  [dim 64]
  %2 = max(page_k, over token)  [dim 64]
  page.lo = %1
  page.hi = %2
row, once a row and step: reads 768 B, keeps 0 B, 576 op
  %6 = relu(q)  [head 3, dim 64]
  %7 = neg(q)  [head 3, dim 64]
  %8 = relu(%7)  [head 3, dim 64]
page 0, over all candidates of a row: reads 119.3 kB, keeps 5.59 kB, 359.29 kop
  %9 = dot(%6, page.hi, over dim)  [head 3]
  %10 = dot(%8, page.lo, over dim)  [head 3]
  %11 = sub(%9, %10)  [head 3]
finish 0, once a row, when all its pages are scored: reads 0 B, keeps 11.18 kB, 5.6 kop
  %12 = max(%11, over page)  [head 3]
  %13 = sub(%11, %12)  [head 3]
  %14 = exp(%13)  [head 3]
  %15 = sum(%14, over page)  [head 3]
  %17 = div(1, %15)  [head 3]
page 1, over all candidates of a row: reads 0 B, keeps 7.46 kB, 2.8 kop
  %18 = dot(%17, %14, over head)
select: reads 1.86 kB
attend: reads 131.07 kB of 1.92 MB
one step of 8 sequences, 30 layers, 3 KV heads: score 85.89 MB, select 1.34 MB, attend 94.37 MB, weights 96 MB; full attention 1.38 GB
memory: summaries 86.45 MB beside keys and values of 1.38 GB
)");
}

}  // namespace
}  // namespace vortex::compiler
