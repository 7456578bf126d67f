// Whole steps: what is stored, summarized, selected and attended, and that bits depend on nothing else.
#include "attention/cpu/step.h"

#include "attention/cpu/score.h"
#include "base/text.h"
#include "ir/interpret.h"
#include "step_world.h"

namespace vortex::attention {
namespace {

TEST(Step, ABudgetThatCoversAllIsFullAttentionBitForBit) {
  for (std::int64_t merged : {1, 4}) {
    World sparse(small(8), 200, 2), full(small(8), 200, 2);
    const int flow = sparse.add_flow(config(8 * merged, 1000));
    for (int s = 0; s < 3; ++s) {
      sparse.add_sequence(400, flow);
      full.add_sequence(400);
    }
    std::vector<World::Feed> prompts = {{0, 300}, {1, 5}, {2, 128}};
    EXPECT_EQ(sparse.step(prompts), full.step(prompts));
    for (int t = 0; t < 20; ++t) {
      ASSERT_EQ(sparse.step({{0, 1}, {1, 1}, {2, 1}}), full.step({{0, 1}, {1, 1}, {2, 1}}));
      EXPECT_EQ(sparse.statistics.layers[0].covered_rows, 6);
      EXPECT_EQ(sparse.statistics.layers[0].sparse_rows, 0);
    }
  }
}

TEST(Step, SelectsWhatTheFlowScoresHighestAndAttendsIt) {
  for (std::int64_t merged : {1, 2}) {
    const std::int64_t page = 8, flow_page = page * merged;
    World world(small(page), 200, 2);
    ir::FlowConfig settings = config(flow_page, 9);
    settings.sinks = 2;
    settings.recent = 3;
    const int flow = world.add_flow(settings);
    world.add_sequence(600, flow);
    world.step({{0, 500}});
    for (int t = 0; t < 2 * flow_page + 3; ++t) {
      const std::vector<float> out = world.step({{0, 1}});
      const Sequence& sequence = world.sequences[0];
      const std::int64_t pages = (sequence.tokens + flow_page - 1) / flow_page, last = 1;  // the last layer
      for (std::int64_t h = 0; h < 2; ++h) {
        // Scores by the definition of the flow, from the stored KV.
        std::vector<std::pair<double, std::int32_t>> scored;
        std::vector<double> scores(static_cast<std::size_t>(pages), 0.0);
        for (std::int64_t g = 0; g < 3; ++g) {
          const float* q = world.last_q.data() + (h * 3 + g) * 32;
          std::vector<double> logits;
          for (std::int64_t p = 2; p < pages - 3; ++p) {
            double logit = 0;
            for (std::int64_t d = 0; d < 32; ++d) {
              double mean = 0;
              for (std::int64_t i = p * flow_page; i < (p + 1) * flow_page; ++i)
                mean += to_float(world.kv().views[last].k.at<BFloat16>(
                    sequence.table[static_cast<std::size_t>(i / page)], h, i % page)[d]);
              mean = to_float(to_bfloat16(static_cast<float>(mean / static_cast<double>(flow_page))));
              logit += static_cast<double>(q[d]) * 0.18 * mean;
            }
            logits.push_back(logit);
          }
          double total = 0;
          for (double logit : logits) total += std::exp(logit);
          for (std::size_t i = 0; i < logits.size(); ++i) scores[i] += std::exp(logits[i]) / total;
        }
        for (std::int64_t p = 2; p < pages - 3; ++p) {
          double weight = 0;
          for (std::int64_t i = p * flow_page; i < (p + 1) * flow_page; ++i)
            weight += std::fabs(to_float(world.kv().views[last].v.at<BFloat16>(
                sequence.table[static_cast<std::size_t>(i / page)], h, i % page)[0]));
          scored.push_back(
              {-scores[static_cast<std::size_t>(p - 2)] * (1 + 1e-3 * weight), static_cast<std::int32_t>(p)});
        }
        std::sort(scored.begin(), scored.end());
        std::vector<std::int32_t> expected = {0, 1};
        for (int i = 0; i < 4; ++i) expected.push_back(scored[static_cast<std::size_t>(i)].second);
        for (std::int64_t p = pages - 3; p < pages; ++p) expected.push_back(static_cast<std::int32_t>(p));
        std::sort(expected.begin(), expected.end());
        ASSERT_EQ(world.selected[static_cast<std::size_t>(last * 2 + h)], expected)
            << "token " << sequence.tokens << " head " << h;
        for (std::int64_t g = 0; g < 3; ++g) {
          std::vector<double> attended =
              reference(world.kv(), last, h, sequence.table, tokens_of(expected, flow_page, sequence.tokens),
                        world.last_q.data() + (h * 3 + g) * 32);
          for (std::int64_t d = 0; d < 32; ++d)
            ASSERT_NEAR(out[static_cast<std::size_t>((h * 3 + g) * 32 + d)], attended[static_cast<std::size_t>(d)],
                        2e-6);
        }
      }
      EXPECT_EQ(world.statistics.layers[0].candidates, 2 * (pages - 5));
      EXPECT_EQ(world.statistics.layers[0].attended_pages, 2 * 9);
      EXPECT_EQ(world.statistics.layers[1].attended_tokens,
                2 * (9 * flow_page - (pages * flow_page - sequence.tokens)));
      EXPECT_EQ(world.statistics.summary_bytes, 2 * 2 * (pages - 5) * (32 * 2 + 4));
      EXPECT_EQ(world.statistics.kv_bytes, 2 * world.statistics.layers[0].attended_tokens * 32 * 4);
      EXPECT_EQ(world.statistics.rebuilt_pages, 0);
    }
  }
}

// Centroids of groups of four pages, then those of the pages of the best two groups.
ir::Program tree(std::int64_t page_size) {
  return ir::parse(concat("vortex_ir 1\nflow \"tree\"\nconfig summary_dtype=f32 budget=9 page_size=", page_size, R"(
%0 = page_k()
%1 = mean(%0, axis="token")
summary mean = %1
%2 = group_k(size=4)
%3 = mean(%2, axis="token")
summary group4_mean = %3
%4 = q()
%5 = summary(name="group4_mean")
%6 = dot(%4, %5, over="dim")
%7 = softmax(%6, axis="page")
%8 = sum(%7, axis="head")
%9 = constant(value=2)
%10 = top_k(%8, %9)
%11 = spread(%10, other=1)
%12 = members(%11)
%13 = summary(name="mean")
%14 = confine(%13, %12)
%15 = dot(%4, %14, over="dim")
%16 = softmax(%15, axis="page")
%17 = sum(%16, axis="head")
score = %17
)"));
}

TEST(Step, GroupsAreScoredAndThenTheirPagesAlone) {
  for (std::int64_t merged : {1, 2}) {
    const std::int64_t page = 8, flow_page = page * merged;
    const ir::Program program = tree(flow_page);
    World world(small(page), 200, 2);
    const int flow = world.add_program(program);
    world.add_sequence(700, flow);
    world.step({{0, 500}});
    for (int t = 0; t < 5 * flow_page + 3; ++t) {
      const Sequence& sequence = world.sequences[0];
      if (t % 7 == 3)  // as after a prefix hit under another flow
        for (std::int32_t physical : sequence.table) world.arena(flow).invalidate(physical);
      world.step({{0, 1}});
      const std::int64_t pages = (sequence.tokens + flow_page - 1) / flow_page, full = sequence.tokens / flow_page;
      const std::vector<std::int64_t> candidates = ir::candidates_of(program.config, pages);
      ir::Environment environment{.geometry = {flow_page, 32, 3}, .tokens = sequence.tokens, .scale = 0.18};
      for (std::int64_t h = 0; h < 2; ++h) {
        ir::Tensor q{{3, 32}, {}};
        for (std::int64_t i = 0; i < 3 * 32; ++i)
          q.data.push_back(static_cast<double>(world.last_q[static_cast<std::size_t>(h * 96 + i)]) * 0.18);
        std::map<std::string, ir::Tensor> summaries;
        for (std::int64_t size : {1, 4}) {
          const ir::GroupRange range =
              size == 1 ? ir::GroupRange{candidates[0], static_cast<std::int64_t>(candidates.size())}
                        : ir::groups_of(size, candidates[0], static_cast<std::int64_t>(candidates.size()), full);
          for (std::int64_t at = range.first; at < range.first + range.count; ++at) {
            ir::Tensor k{{size * flow_page, 32}, {}};
            for (std::int64_t i = at * size * flow_page; i < (at + 1) * size * flow_page; ++i)
              for (std::int64_t d = 0; d < 32; ++d)
                k.data.push_back(static_cast<double>(to_float(world.kv().views[1].k.at<BFloat16>(
                    sequence.table[static_cast<std::size_t>(i / page)], h, i % page)[d])));
            for (auto& [name, tensor] : ir::interpret_summaries(program, environment, k, k, size)) {
              ir::Tensor& all = summaries[name];
              all.shape = {range.count, 32};
              all.data.insert(all.data.end(), tensor.data.begin(), tensor.data.end());
            }
          }
        }
        const std::vector<double> chosen = ir::interpret_chosen(program, environment, q, summaries, candidates);
        std::vector<std::int32_t> expected = {0};
        for (std::size_t i = 0; i < chosen.size(); ++i)
          if (chosen[i] != 0.0) expected.push_back(static_cast<std::int32_t>(candidates[i]));
        for (std::int64_t p = candidates.back() + 1; p < pages; ++p) expected.push_back(static_cast<std::int32_t>(p));
        ASSERT_EQ(world.selected[static_cast<std::size_t>(2 + h)], expected)
            << "token " << sequence.tokens << " head " << h;
      }
      // Two groups of four pages and those of the last, unfilled one at most, and all groups.
      EXPECT_LE(world.statistics.summary_bytes, 2 * 2 * (2 * 4 + 3 + full / 4 + 1) * 32 * 4);
    }
  }
}

// One run: prompts in chunks, then decode steps, each sequence alone or all together. Returns all decode outputs of
// sequence 0 and the summaries it ends with.
struct Outcome {
  std::vector<float> out;
  std::vector<std::uint8_t> summaries;
};
Outcome run_world(int threads, std::int32_t chunk, bool together, std::uint32_t seed) {
  World world(small(4, 2), 900, threads, seed);
  const int flow = world.add_flow(config(8, 7));
  world.add_sequence(700, flow);
  world.add_sequence(700, flow);
  world.add_sequence(300);
  Outcome outcome;
  for (std::int32_t done = 0; done < 500; done += chunk) {
    std::vector<World::Feed> feeds = {{0, std::min(chunk, 500 - done)}};
    if (together) feeds.insert(feeds.begin(), {2, 3});
    if (together && done == 0) feeds.push_back({1, 333});
    std::vector<float> out = world.step(feeds, true);
    const std::size_t skip = together ? static_cast<std::size_t>(3 * world.width()) : 0;
    const std::size_t count = static_cast<std::size_t>(feeds[together ? 1 : 0].tokens * world.width());
    outcome.out.insert(outcome.out.end(), out.begin() + static_cast<std::ptrdiff_t>(skip),
                       out.begin() + static_cast<std::ptrdiff_t>(skip + count));
  }
  for (int t = 0; t < 30; ++t) {
    std::vector<float> out = together ? world.step({{0, 1}, {1, 1}, {2, 1}}) : world.step({{0, 1}});
    outcome.out.insert(outcome.out.end(), out.begin(), out.begin() + world.width());
  }
  outcome.summaries = world.summaries(0);
  return outcome;
}

TEST(Step, BitsDoNotDependOnBatchThreadsChunksOrPages) {
  const Outcome expected = run_world(1, 500, false, 1);
  for (auto [threads, chunk, together, seed] :
       {std::tuple{2, 500, false, 1u}, {5, 500, true, 1u}, {1, 100, true, 2u}, {2, 37, true, 3u}, {5, 1, false, 4u}}) {
    const Outcome other = run_world(threads, chunk, together, static_cast<std::uint32_t>(seed));
    EXPECT_TRUE(same_bits(expected.out.data(), other.out.data(), static_cast<std::int64_t>(expected.out.size())))
        << threads << " threads, chunks of " << chunk << (together ? ", together" : ", alone");
    EXPECT_EQ(expected.summaries, other.summaries) << "chunks of " << chunk;
  }
}

TEST(Step, MissingSummariesAreRebuiltToTheSameBitsAndCounted) {
  World world(small(4), 400, 2);
  const int flow = world.add_flow(config(8, 7));
  world.add_sequence(400, flow);
  world.add_sequence(400, flow);
  world.step({{0, 200}, {1, 64}});
  const std::vector<std::uint8_t> made = world.summaries(0);
  // The first sequence's pages lose theirs; a second sequence shares its first half.
  world.sequences[1].tokens = 100;
  std::copy_n(world.sequences[0].table.begin(), 25, world.sequences[1].table.begin());
  for (std::int32_t page : world.sequences[0].table) world.arena(flow).invalidate(page);
  world.step({{0, 1}, {1, 1}});
  // 201 tokens are 26 pages: a sink, 23 candidates, 2 recent ones. The shared ones are rebuilt once.
  EXPECT_EQ(world.statistics.rebuilt_pages, 23);
  for (std::int32_t page : {world.sequences[0].table[1], world.sequences[0].table[49]})
    EXPECT_FALSE(world.arena(flow).is_valid(page)) << "a sink or recent page is not asked for";
  world.arena(flow).validate(world.sequences[0].table[1]);
  world.arena(flow).validate(world.sequences[0].table[49]);
  EXPECT_EQ(world.summaries(0), made);
  world.step({{0, 1}, {1, 1}});
  EXPECT_EQ(world.statistics.rebuilt_pages, 0);
}

TEST(Step, WritingAPageForgetsItsSummaries) {
  World world(small(4), 400, 2);
  const int flow = world.add_flow(config(4, 7)), other = world.add_flow(config(8, 7));
  world.add_sequence(400, flow);
  world.step({{0, 40}});
  world.sequences[0].flow = other;
  world.sequences[0].tokens = 8;  // cut back, then other tokens are written by the other flow
  world.step({{0, 9}});
  const std::vector<std::int32_t>& table = world.sequences[0].table;
  EXPECT_TRUE(world.arena(flow).is_valid(table[1]));
  EXPECT_FALSE(world.arena(flow).is_valid(table[2]));
  EXPECT_FALSE(world.arena(flow).is_valid(table[4]));
  EXPECT_TRUE(world.arena(other).is_valid(table[3]));
  EXPECT_FALSE(world.arena(other).is_valid(table[2])) << "only the last physical page of a flow page holds its summary";
}

TEST(Step, AFlowWithoutAScoreAttendsSinksAndRecentPages) {
  World world(small(8), 200, 2);
  ir::FlowConfig settings = config(8, 20);
  settings.recent = 4;
  const int flow = world.add_flow(settings, false);
  world.add_sequence(600, flow);
  world.step({{0, 500}});
  world.step({{0, 1}});
  EXPECT_EQ(world.selected[0], (std::vector<std::int32_t>{0, 59, 60, 61, 62}));
  EXPECT_EQ(world.statistics.layers[0].candidates, 0);
}

TEST(Step, FullAttentionLayersStayFull) {
  World world(small(8, 3), 200, 2), full(small(8, 3), 200, 2);
  ir::FlowConfig settings = config(8, 5);
  settings.full_attention_layers = {1};
  world.add_sequence(300, world.add_flow(settings));
  full.add_sequence(300);
  world.step({{0, 250}});
  full.step({{0, 250}});
  world.step({{0, 1}});
  full.step({{0, 1}});
  EXPECT_NE(world.layers_out[0], full.layers_out[0]);
  EXPECT_EQ(world.layers_out[1], full.layers_out[1]);
  EXPECT_NE(world.layers_out[2], full.layers_out[2]);
  EXPECT_EQ(world.statistics.layers[1].sparse_rows, 0);
  EXPECT_EQ(world.statistics.layers[2].sparse_rows, 2);
}

// Rows cut into chunks of pages: few rows, thousands of candidates.
TEST(Step, LongRowsGiveTheSameBitsCutOrNot) {
  std::vector<std::vector<float>> outs;
  for (int threads : {1, 2, 5}) {
    World world({1, 1, 2, 16, 1, 0.25f}, 5000, threads);
    const int flow = world.add_flow(config(1, 100)), other = world.add_flow(config(2, 40), false);
    world.add_sequence(2500, flow);
    world.add_sequence(2400, other);
    world.step({{0, 2400}, {1, 2300}});
    std::vector<float> all;
    for (int t = 0; t < 3; ++t) {
      std::vector<float> out = world.step({{0, 1}, {1, 1}});
      all.insert(all.end(), out.begin(), out.end());
      EXPECT_EQ(world.selected[0].size(), 100u);
      EXPECT_EQ(world.selected[1].size(), 3u);
    }
    outs.push_back(all);
  }
  EXPECT_EQ(outs[0], outs[1]);
  EXPECT_EQ(outs[0], outs[2]);
}

// Rows long enough to be cut, but nothing to score, and fewer of them than threads.
TEST(Score, LongRowsWithoutAScoreAreNotCut) {
  const Geometry geometry{1, 1, 1, 16, 1, 0.25f};
  const MeanFlow flow(1, 16, 1, false);
  ThreadPool pool(8);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::int32_t> lists(2 * 3, -1);
    std::vector<ScoreRow> rows(2);
    for (std::size_t r = 0; r < rows.size(); ++r) {
      rows[r].flow = &flow;
      rows[r].query = static_cast<std::int32_t>(r);
      rows[r].candidates = 2000;
      rows[r].first = 1;
      rows[r].pages = 2003;
      rows[r].list = lists.data() + 3 * r;
    }
    ScorePlan plan;
    plan.make(geometry, rows, pool.threads());
    const std::vector<float> q(2 * 16, 1.0f);
    double busy[2] = {0, 0};
    plan.run(0, 1, q.data(), pool, busy);
    ASSERT_EQ(lists, (std::vector<std::int32_t>{0, 2001, 2002, 0, 2001, 2002}));
  }
}

TEST(Step, RefusesSlicesThatDoNotFit) {
  World world(small(8), 20, 1);
  world.add_sequence(16);
  try {
    world.step({{0, 17}});
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("2 pages of 8 tokens for 17 tokens"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace vortex::attention
