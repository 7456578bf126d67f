// The attend kernels against a double reference, and the promise that bits depend on q and the list alone.
#include "attention/cpu/attend.h"

#include <hwy/highway.h>

#include <bit>

#include "paged.h"

namespace vortex::attention {
namespace {

// Normalised error: values are averages of unit normals, logits a few units wide.
constexpr double kBound = 2e-6;

struct Case {
  std::int64_t page_size, group, head_dim, kv_heads;
  std::vector<std::int64_t> lengths;
  bool token_major = false;
  std::int64_t value_dim = 0;
  bool values_in_keys = false;
  KvType kv_type = KvType::bfloat16;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << "page " << c.page_size << ", group " << c.group << ", dim " << c.head_dim << ", value dim " << c.value_dim
       << ", heads " << c.kv_heads << ", " << name_of(c.kv_type);
}

class Attend : public ::testing::TestWithParam<Case> {
 protected:
  Attend() : random(7) {
    const Case& c = GetParam();
    geometry = {1,           c.kv_heads,       c.group,
                c.head_dim,  c.page_size,      1.0f / std::sqrt(static_cast<float>(c.head_dim)),
                c.value_dim, c.values_in_keys, c.kv_type};
    std::int64_t pages = 3;
    for (std::int64_t length : c.lengths) pages += (length + c.page_size - 1) / c.page_size;
    kv = std::make_unique<PagedKv>(geometry, pages, c.token_major);
    PageDealer dealer(pages, random);
    for (std::int64_t length : c.lengths) {
      tables.push_back(dealer.take((length + c.page_size - 1) / c.page_size));
      kv->fill(tables.back(), length, random);
    }
    width = c.kv_heads * c.group * c.head_dim;
    out_width = c.kv_heads * c.group * geometry.value_channels();
  }

  // Decode rows of all sequences over full lists.
  std::vector<AttendRow> rows() const {
    std::vector<AttendRow> all;
    for (std::size_t s = 0; s < tables.size(); ++s)
      for (std::int64_t h = 0; h < geometry.kv_heads; ++h)
        all.push_back({static_cast<std::int32_t>(h), static_cast<std::int32_t>(s), 1,
                       static_cast<std::int32_t>(GetParam().lengths[s]), tables[s].data()});
    return all;
  }
  void run(std::span<const AttendRow> list, const float* q, float* out, int threads) {
    ThreadPool pool(threads);
    AttendPlan plan;
    plan.make(geometry, list, threads);
    double busy[2] = {0, 0};
    plan.run(kv->views[0], q, out, pool, busy);
  }

  std::mt19937 random;
  Geometry geometry;
  std::unique_ptr<PagedKv> kv;
  std::vector<std::vector<std::int32_t>> tables;
  std::int64_t width, out_width;  // floats of a token in q and in what comes out
};

TEST_P(Attend, FullListAgreesWithTheReference) {
  const Case& c = GetParam();
  const std::int64_t sequences = static_cast<std::int64_t>(tables.size());
  std::vector<float> q = random_floats(sequences * width, random);
  Guarded out(sequences * out_width);
  run(rows(), q.data(), out.get(), 2);
  out.check();
  for (std::int64_t s = 0; s < sequences; ++s)
    for (std::int64_t h = 0; h < c.kv_heads * c.group; ++h) {
      const std::int64_t head = s * c.kv_heads * c.group + h;
      std::vector<double> expected =
          reference(*kv, 0, h / c.group, tables[static_cast<std::size_t>(s)],
                    all_tokens(c.lengths[static_cast<std::size_t>(s)]), q.data() + head * c.head_dim);
      for (std::int64_t d = 0; d < geometry.value_channels(); ++d)
        ASSERT_NEAR(out.get()[head * geometry.value_channels() + d], expected[static_cast<std::size_t>(d)], kBound)
            << "sequence " << s << " head " << h << " channel " << d;
    }
}

TEST_P(Attend, ListsAgreeWithTheReferenceAndFullListsWithNoList) {
  const Case& c = GetParam();
  const std::int64_t sequences = static_cast<std::int64_t>(tables.size());
  std::vector<float> q = random_floats(sequences * width, random);
  Guarded full(sequences * out_width), listed(sequences * out_width), sparse(sequences * out_width);
  run(rows(), q.data(), full.get(), 2);
  for (std::int64_t merged : {1, 3}) {  // physical pages of a listed page
    const std::int64_t listed_size = merged * c.page_size;
    std::vector<AttendRow> all = rows(), some = rows();
    std::vector<std::vector<std::int32_t>> all_lists, some_lists;
    for (std::size_t r = 0; r < all.size(); ++r) {
      const std::int64_t pages = (all[r].tokens + listed_size - 1) / listed_size;
      all_lists.emplace_back();
      some_lists.emplace_back();
      for (std::int32_t p = 0; p < pages; ++p) {
        all_lists.back().push_back(p);
        if (random() % 3 == 0 || p == 0) some_lists.back().push_back(p);
      }
      // Every other row leaves its last page out.
      if (r % 2 == 0 && some_lists.back().back() != pages - 1)
        some_lists.back().push_back(static_cast<std::int32_t>(pages - 1));
    }
    for (std::size_t r = 0; r < all.size(); ++r) {
      for (auto* rows_of : {&all, &some}) {
        AttendRow& row = (*rows_of)[r];
        const auto& list = (rows_of == &all ? all_lists : some_lists)[r];
        row.list = list.data();
        row.list_count = static_cast<std::int32_t>(list.size());
        row.list_page_size = static_cast<std::int32_t>(listed_size);
        row.list_tokens = static_cast<std::int32_t>(tokens_of(list, listed_size, row.tokens).size());
      }
    }
    run(all, q.data(), listed.get(), 3);
    EXPECT_TRUE(same_bits(full.get(), listed.get(), full.count()));
    run(some, q.data(), sparse.get(), 2);
    sparse.check();
    for (std::size_t r = 0; r < some.size(); ++r)
      for (std::int64_t g = 0; g < c.group; ++g) {
        const std::int64_t head = (some[r].first_query * c.kv_heads + some[r].kv_head) * c.group + g;
        std::vector<double> expected =
            reference(*kv, 0, some[r].kv_head, tables[static_cast<std::size_t>(some[r].first_query)],
                      tokens_of(some_lists[r], listed_size, some[r].tokens), q.data() + head * c.head_dim);
        for (std::int64_t d = 0; d < geometry.value_channels(); ++d)
          ASSERT_NEAR(sparse.get()[head * geometry.value_channels() + d], expected[static_cast<std::size_t>(d)], kBound)
              << "row " << r << " channel " << d;
      }
  }
}

TEST_P(Attend, BitsDoNotDependOnBatchOrThreads) {
  const std::int64_t sequences = static_cast<std::int64_t>(tables.size());
  std::vector<float> q = random_floats(sequences * width, random);
  Guarded together(sequences * out_width);
  run(rows(), q.data(), together.get(), 1);
  for (int threads : {2, 5}) {
    Guarded again(sequences * out_width);
    run(rows(), q.data(), again.get(), threads);
    EXPECT_TRUE(same_bits(together.get(), again.get(), together.count())) << threads << " threads";
  }
  Guarded alone(sequences * out_width);
  for (const AttendRow& row : rows()) run({&row, 1}, q.data(), alone.get(), 2);
  EXPECT_TRUE(same_bits(together.get(), alone.get(), together.count()));
  if (out_width != width) return;
  std::vector<float> in_place = q;
  run(rows(), in_place.data(), in_place.data(), 2);
  EXPECT_TRUE(same_bits(together.get(), in_place.data(), together.count()));
}

TEST_P(Attend, PrefillGivesTheBitsOfDecodeHoweverItIsCut) {
  const Case& c = GetParam();
  const std::int64_t length = std::min<std::int64_t>(c.lengths[0], 400);
  std::vector<float> q = random_floats(length * width, random);
  Guarded decoded(length * out_width);
  std::vector<AttendRow> all;
  for (std::int64_t t = 0; t < length; ++t)
    for (std::int64_t h = 0; h < c.kv_heads; ++h)
      all.push_back({static_cast<std::int32_t>(h), static_cast<std::int32_t>(t), 1, static_cast<std::int32_t>(t + 1),
                     tables[0].data()});
  run(all, q.data(), decoded.get(), 2);
  decoded.check();
  for (std::int64_t chunk : {std::int64_t{2}, std::int64_t{7}, std::int64_t{128}, length}) {
    Guarded out(length * out_width);
    std::vector<AttendRow> chunks;
    for (std::int64_t first = 0; first < length; first += chunk) {
      const std::int64_t last = std::min(first + chunk, length);
      for (std::int64_t h = 0; h < c.kv_heads; ++h)
        chunks.push_back({static_cast<std::int32_t>(h), static_cast<std::int32_t>(first),
                          static_cast<std::int32_t>(last - first), static_cast<std::int32_t>(last), tables[0].data()});
    }
    run(chunks, q.data(), out.get(), 3);
    out.check();
    EXPECT_TRUE(same_bits(decoded.get(), out.get(), out.count())) << "chunks of " << chunk;
  }
}

TEST_P(Attend, BitsAreThoseOfEveryVectorWidth) {
  const std::int64_t sequences = static_cast<std::int64_t>(tables.size());
  std::vector<float> q = random_floats(sequences * width, random);
  Guarded widest(sequences * out_width);
  run(rows(), q.data(), widest.get(), 2);
#if HWY_ARCH_X86
  const auto supported = hwy::SupportedTargets();
  int compared = 0;
  for (auto target : {HWY_AVX2, HWY_AVX3}) {
    if (!(supported & target)) continue;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    Guarded out(sequences * out_width);
    run(rows(), q.data(), out.get(), 2);
    EXPECT_TRUE(same_bits(widest.get(), out.get(), out.count())) << hwy::TargetName(target);
    ++compared;
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  if (compared < 2) GTEST_SKIP() << "this processor has one vector width";
#endif
}

INSTANTIATE_TEST_SUITE_P(Shapes, Attend,
                         ::testing::Values(Case{16, 3, 64, 3, {1, 16, 17, 127, 128, 129, 255, 256, 700, 2500}},
                                           Case{1, 1, 64, 2, {1, 5, 130, 300}}, Case{16, 4, 128, 2, {33, 129, 1000, 4}},
                                           Case{128, 5, 96, 1, {1, 128, 385, 1000}}, Case{8, 7, 256, 1, {9, 200, 513}},
                                           Case{32, 16, 64, 1, {640, 31}}, Case{64, 2, 80, 2, {640, 100}},
                                           Case{2, 3, 16, 1, {640, 3}}, Case{4, 6, 48, 2, {300, 77}},
                                           Case{24, 9, 72, 1, {300, 25}}, Case{16, 3, 64, 3, {300, 1500}, true},
                                           Case{3, 1, 10, 1, {77, 260}}, Case{16, 3, 48, 2, {300, 77}, false, 32},
                                           Case{8, 5, 32, 2, {200, 9}, true, 64},
                                           Case{16, 16, 576, 1, {130, 300}, false, 512, true},
                                           Case{4, 128, 40, 1, {129, 7}, false, 32, true},
                                           Case{1, 6, 24, 2, {70, 140}, true, 24, true},
                                           Case{16, 3, 64, 3, {1, 17, 128, 700}, false, 0, false, KvType::int8},
                                           Case{4, 5, 48, 2, {300, 77}, true, 40, false, KvType::int8},
                                           Case{1, 1, 10, 1, {77, 260}, false, 0, false, KvType::int8},
                                           Case{16, 16, 576, 1, {300}, false, 512, true, KvType::int8}));

// The same bits on every processor with fused multiply-add: inputs are exact in binary, the sum of the outputs' bits is
// fixed here.
TEST(AttendEverywhere, BitsAreTheSameOnEveryProcessor) {
#if HWY_ARCH_X86
  if (!(hwy::SupportedTargets() & HWY_AVX2)) GTEST_SKIP() << "this processor has no fused multiply-add";
#endif
  const Geometry geometry{1, 2, 3, 80, 8, 0.109375f};
  std::uint32_t state = 1;
  auto draw = [&] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(static_cast<std::int32_t>(state >> 16) - 32768) / 16384.0f;  // in [-2, 2)
  };
  const std::int32_t tokens = 1001;
  PagedKv kv(geometry, 126);
  std::vector<std::int32_t> table(126);
  for (std::size_t i = 0; i < table.size(); ++i) table[i] = static_cast<std::int32_t>(i * 5 % 126);
  for (std::int64_t t = 0; t < tokens; ++t)
    for (std::int64_t h = 0; h < 2; ++h)
      for (std::int64_t d = 0; d < 80; ++d) {
        kv.views[0].k.at<BFloat16>(table[static_cast<std::size_t>(t / 8)], h, t % 8)[d] = to_bfloat16(draw());
        kv.views[0].v.at<BFloat16>(table[static_cast<std::size_t>(t / 8)], h, t % 8)[d] = to_bfloat16(draw());
      }
  std::vector<float> q(2 * 3 * 80), out(q.size());
  for (float& x : q) x = draw();
  std::vector<AttendRow> rows(2);
  for (std::int32_t h = 0; h < 2; ++h) {
    rows[static_cast<std::size_t>(h)].kv_head = h;
    rows[static_cast<std::size_t>(h)].tokens = tokens;
    rows[static_cast<std::size_t>(h)].page_table = table.data();
  }
  ThreadPool pool(2);
  AttendPlan plan;
  plan.make(geometry, rows, 2);
  double busy[2] = {};
  plan.run(kv.views[0], q.data(), out.data(), pool, busy);
  std::uint64_t sum = 0;
  for (float x : out) sum = sum * 31 + std::bit_cast<std::uint32_t>(x);
  EXPECT_EQ(sum, 3201815438137717578u);
}

// Logits far apart, equal, or huge: no overflow, and weights as the reference has them.
TEST(AttendExtremes, WideLogits) {
  std::mt19937 random(3);
  Geometry geometry{1, 1, 2, 64, 16, 1.0f};
  PagedKv kv(geometry, 40);
  PageDealer dealer(40, random);
  std::vector<std::int32_t> table = dealer.take(40);
  kv.fill(table, 640, random);
  for (float spread : {0.0f, 1e-20f, 1.0f, 10.0f, 1e4f}) {
    std::vector<float> q = random_floats(2 * 64, random, spread);
    Guarded out(2 * 64);
    AttendRow row{0, 0, 1, 640, table.data()};
    ThreadPool pool(2);
    AttendPlan plan;
    plan.make(geometry, {&row, 1}, 2);
    double busy[2] = {};
    plan.run(kv.views[0], q.data(), out.get(), pool, busy);
    out.check();
    // A logit of size x carries an error of about x · 2^-23 · sqrt(dim), which the weights show as it is.
    const double bound = 2e-6 + 4e-6 * spread * 8 * (spread < 100 ? 1 : 0) + (spread > 100 ? 1e-1 : 0);
    for (std::int64_t g = 0; g < 2; ++g) {
      std::vector<double> expected = reference(kv, 0, 0, table, all_tokens(640), q.data() + g * 64);
      for (std::int64_t d = 0; d < 64; ++d)
        EXPECT_NEAR(out.get()[g * 64 + d], expected[static_cast<std::size_t>(d)], bound) << spread;
    }
  }
}

TEST(AttendExtremes, NaNStaysVisible) {
  std::mt19937 random(3);
  Geometry geometry{1, 1, 1, 64, 16, 1.0f};
  PagedKv kv(geometry, 20);
  PageDealer dealer(20, random);
  std::vector<std::int32_t> table = dealer.take(20);
  kv.fill(table, 320, random);
  std::vector<float> q = random_floats(64, random), out(64);
  q[5] = std::nanf("");
  AttendRow row{0, 0, 1, 320, table.data()};
  ThreadPool pool(1);
  AttendPlan plan;
  plan.make(geometry, {&row, 1}, 1);
  double busy[2] = {};
  plan.run(kv.views[0], q.data(), out.data(), pool, busy);
  for (float x : out) EXPECT_TRUE(std::isnan(x));
}

}  // namespace
}  // namespace vortex::attention
