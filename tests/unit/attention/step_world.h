// A small paged world for tests of whole steps: sequences on shuffled pages, random q, k and v that depend on the token
// alone.
#pragma once

#include "attention/cpu/step.h"
#include "attention/row_memory.h"
#include "mean_flow.h"
#include "paged.h"

namespace vortex::attention {

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

inline Geometry small(std::int64_t page_size, std::int64_t layers = 2) { return {layers, 2, 3, 32, page_size, 0.18f}; }

inline ir::FlowConfig config(std::int64_t page_size, std::int64_t budget) {
  ir::FlowConfig all;
  all.page_size = page_size;
  all.budget = budget;
  return all;
}

}  // namespace vortex::attention
