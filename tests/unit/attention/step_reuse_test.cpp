// Whole steps that take the set of an earlier layer or step: what is recalled, what is scored anew, and how much memory
// that needs.
#include "step_world.h"

namespace vortex::attention {
namespace {

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

}  // namespace
}  // namespace vortex::attention
