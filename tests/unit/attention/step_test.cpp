// Whole steps: what is stored, summarized, selected and attended, and that bits depend on nothing else.
#include "attention/cpu/step.h"

#include "attention/cpu/score.h"
#include "attention/row_memory.h"
#include "base/text.h"
#include "ir/interpret.h"
#include "mean_flow.h"
#include "paged.h"

namespace vortex::attention {
namespace {

struct Sequence {
  std::vector<std::int32_t> table;
  std::int32_t tokens = 0;
  int flow = -1;
  std::int64_t steps = 0;
  RowMemory memory = {};
};

// A small paged world that feeds random q, k and v through steps. Token t of sequence s has the same q, k, v whatever
// the order of steps, so runs cut in different ways can be compared.
class World {
 public:
  World(const Geometry& geometry, std::int64_t pages, int threads, std::uint32_t seed = 5)
      : geometry_(geometry), kv_(geometry, pages), random_(seed), dealer_(pages, random_), pool_(threads) {}

  int add_flow(ir::FlowConfig config, bool has_score = true) {
    auto flow = std::make_shared<MeanFlow>(config.page_size, geometry_.head_dim, geometry_.group, has_score);
    arenas_.push_back(
        has_score ? std::make_unique<SummaryArena>(flow->fields(), geometry_.layers, kv_.pages, geometry_.kv_heads)
                  : nullptr);
    flows_.push_back({flow, config, arenas_.back().get()});
    return static_cast<int>(flows_.size()) - 1;
  }
  int add_program(const ir::Program& program) {
    auto flow = codegen::CpuFlow::build(
        compiler::compile(program, {program.config.page_size, geometry_.head_dim, geometry_.group},
                          {.disabled_passes = {}, .keep_text = false, .verify_each = true}));
    arenas_.push_back(std::make_unique<SummaryArena>(flow->fields(), geometry_.layers, kv_.pages, geometry_.kv_heads));
    flows_.push_back({flow, program.config, arenas_.back().get()});
    return static_cast<int>(flows_.size()) - 1;
  }
  int add_sequence(std::int64_t capacity, int flow = -1) {
    sequences.push_back({dealer_.take((capacity + geometry_.page_size - 1) / geometry_.page_size), 0, flow, 0, {}});
    if (flow >= 0)
      sequences.back().memory.reserve(carried_by(flows_[static_cast<std::size_t>(flow)], geometry_), capacity);
    return static_cast<int>(sequences.size()) - 1;
  }

  struct Feed {
    int sequence;
    std::int32_t tokens;
  };
  // Runs one step; returns out of the last layer [tokens, width]. Each layer's out goes to `layers_out` too.
  std::vector<float> step(const std::vector<Feed>& feeds, bool dense = false) {
    std::vector<Slice> slices;
    std::int32_t total = 0;
    for (const Feed& feed : feeds) {
      Sequence& sequence = sequences[static_cast<std::size_t>(feed.sequence)];
      Slice slice;
      slice.first_token = total;
      slice.token_count = feed.tokens;
      slice.context = sequence.tokens;
      slice.page_table = sequence.table.data();
      slice.page_count = static_cast<std::int32_t>(sequence.table.size());
      slice.flow = sequence.flow;
      slice.sparse = !dense && sequence.flow >= 0 && feed.tokens == 1;
      slice.step = sequence.steps;
      slice.memory = &sequence.memory;
      slices.push_back(slice);
      total += feed.tokens;
    }
    const std::int64_t dim = geometry_.head_dim, q_width = width(), k_width = geometry_.kv_heads * dim;
    CpuStep step(geometry_, kv_.views, flows_, slices, workspace_, pool_);
    layers_out.clear();
    selected.clear();
    Guarded out(total * q_width);
    for (std::int32_t layer = 0; layer < geometry_.layers; ++layer) {
      std::vector<float> q, k, v;
      for (const Feed& feed : feeds)
        for (std::int32_t t = 0; t < feed.tokens; ++t) {
          const std::uint32_t position =
              static_cast<std::uint32_t>(sequences[static_cast<std::size_t>(feed.sequence)].tokens + t);
          append_random(q, q_width, feed.sequence, position, layer, 1);
          append_random(k, k_width, feed.sequence, position, layer, 2);
          append_random(v, k_width, feed.sequence, position, layer, 3);
        }
      last_q = q;
      std::fill_n(out.get(), out.count(), std::nanf(""));
      step.run(layer, q.data(), k.data(), v.data(), out.get());
      out.check();
      layers_out.emplace_back(out.get(), out.get() + out.count());
      for (std::size_t s = 0; s < feeds.size(); ++s)
        for (std::int64_t h = 0; h < geometry_.kv_heads; ++h) {
          auto list = step.selected(static_cast<std::int64_t>(s), h);
          selected.emplace_back(list.begin(), list.end());
        }
    }
    for (const Feed& feed : feeds) {
      sequences[static_cast<std::size_t>(feed.sequence)].tokens += feed.tokens;
      if (feed.tokens == 1 && !dense) ++sequences[static_cast<std::size_t>(feed.sequence)].steps;
    }
    statistics = step.statistics();
    return layers_out.back();
  }

  std::int64_t width() const { return geometry_.kv_heads * geometry_.group * geometry_.head_dim; }
  const PagedKv& kv() const { return kv_; }
  SummaryArena& arena(int flow) { return *arenas_[static_cast<std::size_t>(flow)]; }
  const codegen::CpuFlow& flow(int flow) { return *flows_[static_cast<std::size_t>(flow)].flow; }
  // Summaries of a sequence's full pages under its flow, all layers and heads, as bytes.
  std::vector<std::uint8_t> summaries(int sequence) {
    const Sequence& of = sequences[static_cast<std::size_t>(sequence)];
    const LoadedFlow& loaded = flows_[static_cast<std::size_t>(of.flow)];
    const std::int64_t merged = loaded.config.page_size / geometry_.page_size;
    std::vector<std::uint8_t> bytes;
    for (std::int64_t page = 0; page < of.tokens / loaded.config.page_size; ++page) {
      const std::int32_t home = of.table[static_cast<std::size_t>((page + 1) * merged - 1)];
      EXPECT_TRUE(loaded.arena->is_valid(home)) << "page " << page;
      for (std::int64_t layer = 0; layer < geometry_.layers; ++layer)
        for (std::int64_t f = 0; f < loaded.arena->fields(); ++f)
          for (std::int64_t h = 0; h < geometry_.kv_heads; ++h) {
            const FieldBlock block = loaded.arena->block(layer, f);
            const auto* from = static_cast<const std::uint8_t*>(block.at(home, h));
            bytes.insert(bytes.end(), from,
                         from + loaded.flow->fields()[static_cast<std::size_t>(f)].elements * block.element_bytes);
          }
    }
    return bytes;
  }

  std::vector<Sequence> sequences;
  std::vector<std::vector<float>> layers_out;
  std::vector<std::vector<std::int32_t>> selected;  // [layer, slice, kv_head]
  std::vector<float> last_q;
  StepStatistics statistics;

 private:
  static void append_random(std::vector<float>& to, std::int64_t count, int sequence, std::uint32_t position, int layer,
                            std::uint32_t what) {
    std::mt19937 random(position * 1000003u + static_cast<std::uint32_t>(sequence) * 7919u +
                        static_cast<std::uint32_t>(layer) * 101u + what);
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < count; ++i) to.push_back(normal(random));
  }

  Geometry geometry_;
  PagedKv kv_;
  std::mt19937 random_;
  PageDealer dealer_;
  ThreadPool pool_;
  StepWorkspace workspace_;
  std::vector<LoadedFlow> flows_;
  std::vector<std::unique_ptr<SummaryArena>> arenas_;
};

Geometry small(std::int64_t page_size, std::int64_t layers = 2) { return {layers, 2, 3, 32, page_size, 0.18f}; }

ir::FlowConfig config(std::int64_t page_size, std::int64_t budget) {
  ir::FlowConfig all;
  all.page_size = page_size;
  all.budget = budget;
  return all;
}

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

using List = std::vector<std::int32_t>;

// The list of (layer, KV head) of the slice run alone.
List list_at(const World& world, std::size_t layer, std::size_t head) { return world.selected[2 * layer + head]; }

TEST(Step, LayersTakeTheSetOfAnEarlierLayer) {
  const std::map<std::int64_t, std::int64_t> in_turn = {{1, 0}, {3, 2}, {4, 2}}, crossed = {{2, 0}, {3, 1}, {5, 1}};
  for (const auto& reuse : {in_turn, crossed}) {
    World plain(small(8, 6), 200, 2), world(small(8, 6), 200, 2);
    ir::FlowConfig settings = config(8, 7);
    plain.add_sequence(400, plain.add_flow(settings));
    settings.reuse = reuse;
    world.add_sequence(400, world.add_flow(settings));
    plain.step({{0, 300}});
    world.step({{0, 300}});
    for (int t = 0; t < 10; ++t) {
      plain.step({{0, 1}});
      world.step({{0, 1}});
      for (std::size_t layer = 0; layer < 6; ++layer) {
        const std::size_t source = static_cast<std::size_t>(settings.source_of(static_cast<std::int64_t>(layer)));
        const LayerCounts& counts = world.statistics.layers[layer];
        for (std::size_t head : {0u, 1u}) {
          EXPECT_EQ(list_at(world, layer, head), list_at(plain, source, head)) << "layer " << layer << ", step " << t;
          if (source != layer) {
            EXPECT_NE(list_at(world, layer, head), list_at(plain, layer, head));
          }
        }
        EXPECT_EQ(counts.sparse_rows, 2);
        EXPECT_EQ(counts.reused_rows, source == layer ? 0 : 2);
        EXPECT_EQ(counts.candidates, source == layer ? plain.statistics.layers[layer].candidates : 0);
        EXPECT_EQ(counts.attended_tokens, plain.statistics.layers[layer].attended_tokens);
      }
    }
  }
}

TEST(Step, ASetIsKeptForSomeStepsAndNewPagesAreAdded) {
  World plain(small(2, 3), 300, 2), world(small(2, 3), 300, 2);
  ir::FlowConfig settings = config(2, 12);
  settings.recent = 1;
  plain.add_sequence(400, plain.add_flow(settings));
  settings.refresh_every = 5;
  settings.reuse = {{2, 1}};
  world.add_sequence(400, world.add_flow(settings));
  plain.step({{0, 301}}, true);
  world.step({{0, 301}}, true);
  std::vector<List> chosen(4);
  std::int32_t pages_then = 0;
  for (int t = 0; t < 23; ++t) {
    plain.step({{0, 1}});
    world.step({{0, 1}});
    const std::int32_t pages = (world.sequences[0].tokens + 1) / 2;
    for (std::size_t layer = 0; layer < 3; ++layer)
      for (std::size_t head : {0u, 1u}) {
        const std::size_t source = layer == 2 ? 1 : layer;
        List& kept = chosen[2 * source + head];
        if (t % 5 == 0) {
          if (source == layer) kept = list_at(plain, layer, head);
          pages_then = pages;
        }
        List expected = kept;
        for (std::int32_t page = pages_then; page < pages; ++page) expected.push_back(page);
        EXPECT_EQ(list_at(world, layer, head), expected) << "layer " << layer << ", step " << t;
        if (t % 5 == 4 && source == layer) {
          EXPECT_NE(expected, list_at(plain, layer, head));
        }
        EXPECT_EQ(world.statistics.layers[layer].candidates > 0, t % 5 == 0 && source == layer);
      }
  }
}

// Sequences whose sets are chosen in different steps, beside full ones: each as if it were alone.
TEST(Step, SlicesKeepAndTakeSideBySide) {
  const auto flow_of = [](int sequence) {
    ir::FlowConfig settings = config(4, 6 + sequence);
    if (sequence % 2 == 0) settings.refresh_every = 2 + sequence;
    if (sequence % 3 != 0) settings.reuse = {{1 + sequence % 2, 0}};
    if (sequence == 4) settings.budget = 1000;
    return settings;
  };
  World together(small(4, 3), 1000, 3);
  for (int s = 0; s < 5; ++s) together.add_sequence(200, together.add_flow(flow_of(s)));
  std::vector<World::Feed> feeds;
  std::vector<std::vector<List>> lists;
  for (int s = 0; s < 5; ++s) together.step({{s, 100 + 7 * s}});
  for (int t = 0; t < 5; ++t) {  // one joins in each step
    feeds.push_back({t, 1});
    together.step(feeds);
  }
  for (int t = 0; t < 8; ++t) {
    together.step(feeds);
    lists.push_back(together.selected);  // [layer, slice, head]
  }
  for (int s = 0; s < 5; ++s) {
    World alone(small(4, 3), 1000, 1);
    for (int before = 0; before < s; ++before) alone.add_sequence(4);
    alone.add_sequence(200, alone.add_flow(flow_of(s)));
    alone.step({{s, 100 + 7 * s}});
    for (int t = 0; t < 5 - s; ++t) alone.step({{s, 1}});
    for (std::size_t t = 0; t < 8; ++t) {
      alone.step({{s, 1}});
      for (std::size_t layer = 0; layer < 3; ++layer)
        for (std::size_t head : {0u, 1u})
          EXPECT_EQ(lists[t][(layer * 5 + static_cast<std::size_t>(s)) * 2 + head], list_at(alone, layer, head))
              << "sequence " << s << ", step " << t << ", layer " << layer;
    }
  }
}

TEST(Step, AFlowThatKeepsSetsNeedsMemoryForThem) {
  World world(small(8), 200, 1);
  ir::FlowConfig settings = config(8, 5);
  settings.refresh_every = 2;
  world.add_sequence(200, world.add_flow(settings));
  world.step({{0, 100}});
  world.sequences[0].memory = {};
  try {
    world.step({{0, 1}});
    FAIL();
  } catch (const InternalError& error) {
    EXPECT_NE(std::string(error.what()).find("memory of 0 pages for 101 tokens"), std::string::npos) << error.what();
  }
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
