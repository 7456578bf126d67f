// The decode chain through include/vortex/attention.h: the same bits as a step, and refusals in words.
#include <vortex/attention.h>

#include <limits>

#include "attention/cpu/step.h"
#include "attention/flow_handle.h"
#include "mean_flow.h"
#include "paged.h"

namespace vortex::attention {
namespace {

class CInterface : public ::testing::Test {
 protected:
  static constexpr std::int64_t kTokens = 150, kDim = 32, kHeads = 2, kGroup = 3, kPage = 4, kFlowPage = 8,
                                kStride = 40;
  static constexpr std::int64_t kWidth = kHeads * kGroup * kDim;

  CInterface()
      : random(9), world({1, kHeads, kGroup, kDim, kPage, 0.2f}, 120), geometry{kHeads, kGroup, kDim, kPage,
                                                                                0.2f,   kDim,   0} {
    flow.flow = std::make_shared<MeanFlow>(kFlowPage, kDim, kGroup);
    flow.config.page_size = kFlowPage;
    flow.config.budget = 6;
    PageDealer dealer(120, random);
    for (int s = 0; s < 2; ++s) {
      std::vector<std::int32_t> table = dealer.take(kStride);
      tables.insert(tables.end(), table.begin(), table.end());
    }
    const Plane& k = world.views[0].k;
    const Plane& v = world.views[0].v;
    kv = {VORTEX_BFLOAT16,
          {k.base, k.page_stride, k.head_stride, k.token_stride},
          {v.base, v.page_stride, v.head_stride, v.token_stride},
          {},
          {}};
    batch = {2, tables.data(), kStride, tokens, fresh, nullptr};
    EXPECT_EQ(vortex_create_context(2, &context), VORTEX_OK);
    mean.assign(static_cast<std::size_t>(120 * kHeads * kDim), 0);
    weight.assign(120 * kHeads, 0.0f);
    fields[0] = {mean.data(), kHeads * kDim, kDim};
    fields[1] = {weight.data(), kHeads, 1};
    pages.assign(4 * kStride, -1);
    lists = {kFlowPage, pages.data(), kStride, counts};
  }
  ~CInterface() override { vortex_destroy_context(context); }

  void expect_refused(vortex_status status, vortex_status expected, const std::string& words) {
    EXPECT_EQ(status, expected);
    EXPECT_NE(std::string(vortex_last_error()).find(words), std::string::npos) << vortex_last_error();
  }

  std::mt19937 random;
  PagedKv world;
  vortex_geometry geometry;
  vortex_flow flow;
  vortex_kv kv;
  vortex_batch batch;
  vortex_context* context = nullptr;
  std::vector<std::int32_t> tables, pages;
  std::int32_t tokens[2] = {kTokens, 61}, fresh[2] = {kTokens, 61}, counts[4] = {};
  std::vector<std::uint16_t> mean;
  std::vector<float> weight;
  vortex_field fields[2];
  vortex_lists lists;
};

TEST_F(CInterface, TheChainGivesTheBitsOfAStep) {
  const std::int64_t all = kTokens + 61;
  std::vector<float> q = random_floats(all * kWidth, random), k = random_floats(all * kHeads * kDim, random),
                     v = random_floats(all * kHeads * kDim, random);
  std::vector<float> q1 = random_floats(2 * kWidth, random), k1 = random_floats(2 * kHeads * kDim, random),
                     v1 = random_floats(2 * kHeads * kDim, random);
  Guarded prompt(all * kWidth), decoded(2 * kWidth), full(2 * kWidth);
  ASSERT_EQ(vortex_append(context, &geometry, &kv, &batch, k.data(), v.data(), nullptr), VORTEX_OK)
      << vortex_last_error();
  ASSERT_EQ(vortex_summarize(context, &geometry, &kv, &flow, fields, &batch, nullptr), VORTEX_OK)
      << vortex_last_error();
  ASSERT_EQ(vortex_attend(context, &geometry, &kv, &batch, nullptr, q.data(), prompt.get(), nullptr, 0, nullptr),
            VORTEX_OK);
  prompt.check();
  const std::int64_t steps[2] = {4, 5};
  ++tokens[0], ++tokens[1];
  batch.new_tokens = nullptr;
  batch.steps = steps;
  ASSERT_EQ(vortex_append(context, &geometry, &kv, &batch, k1.data(), v1.data(), nullptr), VORTEX_OK);
  ASSERT_EQ(vortex_summarize(context, &geometry, &kv, &flow, fields, &batch, nullptr), VORTEX_OK);
  ASSERT_EQ(vortex_select(context, &geometry, &flow, fields, &batch, q1.data(), 0, 1, &lists, nullptr, 0, nullptr),
            VORTEX_OK);
  ASSERT_EQ(vortex_attend(context, &geometry, &kv, &batch, &lists, q1.data(), decoded.get(), nullptr, 0, nullptr),
            VORTEX_OK);
  ASSERT_EQ(vortex_attend(context, &geometry, &kv, &batch, nullptr, q1.data(), full.get(), nullptr, 0, nullptr),
            VORTEX_OK);
  decoded.check();
  full.check();

  PagedKv other(world.geometry, 120);
  SummaryArena arena(flow.flow->fields(), 1, 120, kHeads);
  LoadedFlow loaded{flow.flow, flow.config, &arena};
  StepWorkspace workspace;
  ThreadPool pool(1);
  Slice slices[2];
  for (int s = 0; s < 2; ++s)
    slices[s] = {s == 0 ? 0 : static_cast<std::int32_t>(kTokens),
                 s == 0 ? static_cast<std::int32_t>(kTokens) : 61,
                 0,
                 tables.data() + s * kStride,
                 kStride,
                 0,
                 false,
                 true,
                 0};
  std::vector<float> out(static_cast<std::size_t>(all * kWidth)), out1(static_cast<std::size_t>(2 * kWidth));
  CpuStep(world.geometry, other.views, {&loaded, 1}, slices, workspace, pool)
      .run(0, q.data(), k.data(), v.data(), out.data());
  EXPECT_TRUE(same_bits(out.data(), prompt.get(), prompt.count()));
  for (int s = 0; s < 2; ++s)
    slices[s] = {
        s,     1,       s == 0 ? static_cast<std::int32_t>(kTokens) : 61, tables.data() + s * kStride, kStride, 0, true,
        false, steps[s]};
  CpuStep step(world.geometry, other.views, {&loaded, 1}, slices, workspace, pool);
  step.run(0, q1.data(), k1.data(), v1.data(), out1.data());
  EXPECT_TRUE(same_bits(out1.data(), decoded.get(), decoded.count()));
  EXPECT_FALSE(same_bits(out1.data(), full.get(), full.count()));
  for (std::int64_t row = 0; row < 4; ++row) {
    auto expected = step.selected(row / kHeads, row % kHeads);
    EXPECT_EQ(std::vector<std::int32_t>(pages.begin() + row * kStride, pages.begin() + row * kStride + counts[row]),
              std::vector<std::int32_t>(expected.begin(), expected.end()));
  }

  // A budget that covers all lists all, and gives the bits of full attention.
  flow.config.budget = 100;
  Guarded covered(2 * kWidth);
  ASSERT_EQ(vortex_select(context, &geometry, &flow, fields, &batch, q1.data(), 0, 1, &lists, nullptr, 0, nullptr),
            VORTEX_OK);
  EXPECT_EQ(counts[0], vortex_flow_budget(&flow, tokens[0]));
  ASSERT_EQ(vortex_attend(context, &geometry, &kv, &batch, &lists, q1.data(), covered.get(), nullptr, 0, nullptr),
            VORTEX_OK);
  EXPECT_TRUE(same_bits(covered.get(), full.get(), full.count()));
}

// MLA: one latent a token, whose first channels are the value.
TEST_F(CInterface, ValuesMayLieInTheKeys) {
  constexpr std::int64_t kValue = 24, kQ = kHeads * kGroup * kDim, kOut = kHeads * kGroup * kValue;
  world = PagedKv({1, kHeads, kGroup, kDim, kPage, 0.2f, kValue, true}, 120);
  geometry.value_dim = kValue;
  geometry.values_in_keys = 1;
  const Plane& k = world.views[0].k;
  kv.k = {k.base, k.page_stride, k.head_stride, k.token_stride};
  kv.v = {};
  const std::int64_t all = kTokens + 61;
  std::vector<float> q = random_floats(all * kQ, random), keys = random_floats(all * kHeads * kDim, random);
  Guarded out(all * kOut);
  ASSERT_EQ(vortex_append(context, &geometry, &kv, &batch, keys.data(), nullptr, nullptr), VORTEX_OK)
      << vortex_last_error();
  ASSERT_EQ(vortex_attend(context, &geometry, &kv, &batch, nullptr, q.data(), out.get(), nullptr, 0, nullptr),
            VORTEX_OK);
  out.check();
  const std::vector<std::int32_t> table(tables.begin(), tables.begin() + kStride);
  for (std::int64_t head = 0; head < kHeads * kGroup; ++head) {
    const std::int64_t row = (kTokens - 1) * kHeads * kGroup + head;
    std::vector<double> expected =
        reference(world, 0, head / kGroup, table, all_tokens(kTokens), q.data() + row * kDim);
    for (std::int64_t d = 0; d < kValue; ++d)
      EXPECT_NEAR(out.get()[row * kValue + d], expected[static_cast<std::size_t>(d)], 2e-6);
  }
  ASSERT_EQ(vortex_append(context, &geometry, &kv, &batch, nullptr, nullptr, nullptr), VORTEX_BAD_ARGUMENT);
  expect_refused(vortex_summarize(context, &geometry, &kv, &flow, fields, &batch, nullptr), VORTEX_BAD_ARGUMENT,
                 "head_dim, value_dim and group of the flow, 32, 32 and 3; head_dim 32, value_dim 24, group 3");
}

// What is stored is the nearest integer times a scale; the open page is like any other.
TEST_F(CInterface, KvMayBeIntegers) {
  Geometry integers = world.geometry;
  integers.kv_type = KvType::int8;
  world = PagedKv(integers, 120);
  const Plane &k = world.views[0].k, &v = world.views[0].v;
  kv = {VORTEX_INT8,
        {k.base, k.page_stride, k.head_stride, k.token_stride},
        {v.base, v.page_stride, v.head_stride, v.token_stride},
        {k.scales, k.scale_page_stride, k.scale_head_stride},
        {v.scales, v.scale_page_stride, v.scale_head_stride}};
  const std::int64_t all = kTokens + 61;
  std::vector<float> q = random_floats(all * kWidth, random), keys = random_floats(all * kHeads * kDim, random),
                     values = random_floats(all * kHeads * kDim, random, 3.0f);
  std::fill_n(keys.begin(), kDim, 0.0f);  // of token 0, KV head 0
  keys[kDim] = std::nanf("");             // of token 0, KV head 1
  Guarded out(all * kWidth);
  ASSERT_EQ(vortex_append(context, &geometry, &kv, &batch, keys.data(), values.data(), nullptr), VORTEX_OK)
      << vortex_last_error();
  const std::vector<std::int32_t> table(tables.begin(), tables.begin() + kStride);
  for (std::int64_t t = 1; t < kTokens; ++t)
    for (std::int64_t head = 0; head < kHeads; ++head)
      for (const auto& [plane, given] : {std::pair(&k, &keys), std::pair(&v, &values)}) {
        const float* x = given->data() + (t * kHeads + head) * kDim;
        float largest = 0;
        for (std::int64_t d = 0; d < kDim; ++d) largest = std::max(largest, std::fabs(x[d]));
        const std::int64_t page = table[static_cast<std::size_t>(t / kPage)];
        EXPECT_EQ(*plane->scale_at(page, head, t % kPage), largest / 127.0f);
        for (std::int64_t d = 0; d < kDim; ++d)
          ASSERT_NEAR(world.stored(*plane, page, head, t % kPage, d), x[d], 0.5001 * largest / 127.0);
      }
  EXPECT_EQ(*k.scale_at(table[0], 0, 0), 0.0f) << "zeros stay zeros";
  EXPECT_TRUE(std::isnan(*k.scale_at(table[0], 1, 0))) << "what is no number stays visible";
  ASSERT_EQ(vortex_attend(context, &geometry, &kv, &batch, nullptr, q.data(), out.get(), nullptr, 0, nullptr),
            VORTEX_OK);
  const std::int64_t row = kTokens - 1;
  EXPECT_TRUE(std::isnan(out.get()[row * kWidth + kGroup * kDim]));
  for (std::int64_t head = 0; head < kGroup; ++head) {  // of KV head 0
    const std::int64_t first = row * kWidth + head * kDim;
    std::vector<double> expected = reference(world, 0, 0, table, all_tokens(kTokens), q.data() + first);
    for (std::int64_t d = 0; d < kDim; ++d)
      EXPECT_NEAR(out.get()[first + d], expected[static_cast<std::size_t>(d)], 6e-6);
  }
  // Summaries are made of the stored numbers as bf16.
  ASSERT_EQ(vortex_summarize(context, &geometry, &kv, &flow, fields, &batch, nullptr), VORTEX_OK);
  const std::int64_t flow_page = 3, home = table[static_cast<std::size_t>(flow_page * 2 + 1)];
  for (std::int64_t d = 0; d < kDim; ++d) {
    float sum = 0;
    for (std::int64_t t = flow_page * kFlowPage; t < (flow_page + 1) * kFlowPage; ++t)
      sum += to_float(to_bfloat16(
          static_cast<float>(world.stored(k, table[static_cast<std::size_t>(t / kPage)], 1, t % kPage, d))));
    EXPECT_EQ(mean[static_cast<std::size_t>((home * kHeads + 1) * kDim + d)],
              to_bfloat16(sum / static_cast<float>(kFlowPage)).bits);
  }
}

TEST_F(CInterface, TellsTheFieldsOfAFlow) {
  EXPECT_EQ(vortex_flow_fields(&flow), 2);
  EXPECT_EQ(vortex_flow_field_elements(&flow, 0), kDim);
  EXPECT_EQ(vortex_flow_field_dtype(&flow, 0), VORTEX_BFLOAT16);
  EXPECT_EQ(vortex_flow_field_dtype(&flow, 1), VORTEX_FLOAT32);
  EXPECT_EQ(vortex_flow_field_elements(&flow, 2), 0);
  EXPECT_EQ(vortex_flow_budget(&flow, 8 * 40), 6);
  EXPECT_EQ(vortex_flow_budget(&flow, 8 * 4), 4);
  EXPECT_EQ(vortex_workspace_bytes(context, &geometry, &flow, 2, 100), 0u);
}

TEST_F(CInterface, RefusesInWords) {
  std::vector<float> q(static_cast<std::size_t>(2 * kWidth), 1.0f), out(static_cast<std::size_t>(2 * kWidth), 7.0f);
  batch.new_tokens = nullptr;
  auto attend = [&](const vortex_lists* with) {
    return vortex_attend(context, &geometry, &kv, &batch, with, q.data(), out.data(), nullptr, 0, nullptr);
  };
  expect_refused(vortex_attend(nullptr, &geometry, &kv, &batch, nullptr, q.data(), out.data(), nullptr, 0, nullptr),
                 VORTEX_BAD_ARGUMENT, "[vortex_attend] context points to memory; a null pointer; correct the argument");
  expect_refused(vortex_attend(context, &geometry, &kv, &batch, nullptr, nullptr, out.data(), nullptr, 0, nullptr),
                 VORTEX_BAD_ARGUMENT, "q points to memory");
  vortex_destroy_context(context);
  expect_refused(vortex_create_context(-1, &context), VORTEX_BAD_ARGUMENT, "a number of threads from 1 to 4096");
  EXPECT_EQ(context, nullptr);
  ASSERT_EQ(vortex_create_context(1, &context), VORTEX_OK);
  geometry.head_dim = 33;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "head_dim is even; head_dim 33");
  geometry.head_dim = kDim;
  geometry.group = 129;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "group is from 1 to 128; group 129");
  geometry.group = kGroup;
  geometry.value_dim = 31;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "value_dim is even; value_dim 31");
  geometry.value_dim = 34;
  geometry.values_in_keys = 1;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "values that lie in keys of 32 channels; value_dim 34");
  geometry.values_in_keys = 2;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "values_in_keys is from 0 to 1; values_in_keys 2");
  geometry.value_dim = kDim;
  geometry.values_in_keys = 0;
  kv.dtype = VORTEX_FLOAT32;
  expect_refused(attend(nullptr), VORTEX_UNSUPPORTED, "KV in bfloat16 or int8; dtype 1; store K and V as one of these");
  kv.dtype = VORTEX_INT8;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "kv.k_scales.base points to memory; a null pointer");
  kv.dtype = VORTEX_BFLOAT16;
  kv.v.token_stride += 1;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "K and V at even strides from a base at a multiple of 4 bytes");
  kv.v.token_stride -= 1;
  tokens[1] = 161;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "sequence 1 of 161 tokens needs 41 pages, page_table_stride 40");
  tokens[1] = 0;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "sequence 1 holds 0 tokens, 1 of them new");
  tokens[1] = 61;
  tables[3] = -1;
  expect_refused(attend(nullptr), VORTEX_BAD_ARGUMENT, "page 3 of sequence 0 is -1");
  tables[3] = 3;
  for (int row = 0; row < 4; ++row) counts[row] = 1, pages[static_cast<std::size_t>(row * kStride)] = 0;
  pages[0] = 19;
  expect_refused(attend(&lists), VORTEX_BAD_ARGUMENT, "ascending pages below 19; row 0 lists 19 at 0");
  pages[0] = 0;
  counts[3] = 0;
  expect_refused(attend(&lists), VORTEX_BAD_ARGUMENT, "row 3 lists 0");
  lists.page_size = 6;
  expect_refused(attend(&lists), VORTEX_BAD_ARGUMENT, "a multiple of the physical 4 tokens; lists.page_size 6");
  lists.page_size = kFlowPage;
  auto select = [&] {
    return vortex_select(context, &geometry, &flow, fields, &batch, q.data(), 0, 1, &lists, nullptr, 0, nullptr);
  };
  lists.stride = 5;
  expect_refused(select(), VORTEX_BAD_ARGUMENT, "sequence 0 attends 6 pages, stride 5");
  lists.stride = kStride;
  geometry.group = 2;
  expect_refused(select(), VORTEX_BAD_ARGUMENT, "compile the flow for this geometry");
  geometry.group = kGroup;
  batch.new_tokens = fresh;
  expect_refused(select(), VORTEX_BAD_ARGUMENT,
                 "one new token a sequence where pages are selected; sequence 0 has 150");
  geometry.page_size = 4096;
  const std::int32_t most[2] = {std::numeric_limits<std::int32_t>::max(), std::numeric_limits<std::int32_t>::max()};
  const std::int64_t stride = std::int64_t{1} << 19;
  const std::vector<std::int32_t> one_page(static_cast<std::size_t>(2 * stride), 0);
  batch = {2, one_page.data(), stride, most, most, nullptr};
  expect_refused(vortex_append(context, &geometry, &kv, &batch, q.data(), q.data(), nullptr), VORTEX_BAD_ARGUMENT,
                 "fewer than 2^31 new tokens in a batch; more, at sequence 1; use smaller batches");
  for (float x : out) EXPECT_EQ(x, 7.0f) << "a refused call wrote its output";
}

}  // namespace
}  // namespace vortex::attention
