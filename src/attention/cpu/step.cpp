#include "attention/cpu/step.h"

#include <algorithm>
#include <chrono>
#include <tuple>
#include <utility>

#include "attention/cpu/append.h"
#include "attention/cpu/attend.h"
#include "attention/cpu/memory.h"
#include "attention/cpu/score.h"
#include "attention/row_memory.h"
#include "base/arithmetic.h"
#include "base/check.h"

namespace vortex::attention {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

struct StepWorkspace::State {
  // Where a slice's pages come from in a layer.
  enum class Turn : std::uint8_t {
    full,     // all of them
    advance,  // all of them, and the flow's state advances
    score,    // the flow scores and chooses
    take,     // an earlier layer of this step chose them
    recall,   // an earlier step chose them, and those that came since are added
  };
  // What a slice does in a layer. Counts are in pages of its flow. Layers in which it is the same share their plans.
  struct Part {
    Turn turn = Turn::full;
    std::int32_t flow = -1;     // that chooses
    bool covered = false;       // full because the budget covers every page
    std::int32_t attended = 0;  // on each list; where lists differ in length, what the budget says
    std::int32_t candidates = 0, first = 0;
    std::int32_t slot = 0;  // which of its lists, where several layers' are kept for later ones

    bool operator==(const Part&) const = default;
  };
  // A slice and what its flow makes of it.
  struct Work {
    Slice slice;
    std::int32_t tokens = 0;          // context and new tokens
    std::int32_t pages = 0;           // 0: the slice decodes with full attention
    bool by_layer = false;            // the budget, or the flow, may differ from layer to layer
    ir::RowPages budget;              // else: the same in all
    Part now, planned;                // in the layer that runs, and in the plans
    std::int64_t list = 0;            // its lists [slots, kv_heads, list_room] in `lists`
    std::int64_t counts = 0;          // their lengths [slots, kv_heads] in `list_counts`, where they differ or are kept
    std::int32_t list_room = 0;       // the most it attends in any layer where it selects
    std::int64_t summary_pages = -1;  // its pages in `summary_pages`; -1: the page table has them
    bool sparse() const { return now.turn > Turn::advance; }  // attends lists
  };

  Geometry geometry;
  std::span<const KvView> kv;
  std::span<const LoadedFlow> flows;
  ThreadPool* pool = nullptr;
  std::vector<Slice> slices;
  std::vector<Work> works;
  std::vector<std::int32_t> slots;        // [flows, layers] the list slot of a layer that chooses
  std::vector<std::int32_t> slot_counts;  // [flows]
  bool planned = false;
  bool taken = false;  // in the layer that runs, every sparse slice takes lists as the plans have them
  std::int32_t layer = -1;

  std::vector<FieldBlock> blocks;         // fields of all flows in the layer that runs
  std::vector<std::int64_t> first_block;  // [flows]
  struct OwnedPage {
    FullPage page;
    std::int32_t owner, flow, home;  // owner: the slice's flow; home: the physical page that holds the summary
  };
  std::vector<OwnedPage> finished, missing;
  std::vector<FullPage> layer_pages;  // those of them that a layer summarizes
  // A row whose list is as long as its set is large.
  struct OpenRow {
    std::size_t attend_row, work;
    std::int32_t head;
  };
  std::vector<OpenRow> open_rows;
  Scratch<float> rests;
  std::vector<ScoreRow> score_rows;
  std::vector<AttendRow> attend_rows;
  std::vector<std::size_t> scored_attend_rows;  // [score_rows] the row that attends what it chooses
  Scratch<std::int32_t> lists, list_counts, summary_pages;
  ScorePlan score_plan;
  AttendPlan attend_plan;
  Summarizer summarizer;
  LayerCounts counts;  // of a layer under the present plans
  std::int64_t kv_bytes = 0;
  StepStatistics statistics;

  void set_layer(std::int64_t of);
  const LoadedFlow& flow_of(const Work& work) const { return flows[static_cast<std::size_t>(work.slice.flow)]; }
  // The flow that chooses in a layer.
  std::int32_t flow_at(std::int32_t flow, std::int64_t of) const {
    const std::vector<std::int32_t>& by_layer = flows[static_cast<std::size_t>(flow)].by_layer;
    return by_layer.empty() ? flow : by_layer[static_cast<std::size_t>(of)];
  }
  const codegen::CpuFlow& chooser(const Work& work) const {
    return *flows[static_cast<std::size_t>(work.now.flow)].flow;
  }
  // The flows of a slice's layers: its own and, where layers have others, those.
  template <class Visit>
  void each_flow(std::int32_t flow, const Visit& visit) const {
    std::int32_t last = flow;  // the others were loaded after it, one after another
    for (std::int32_t other : flows[static_cast<std::size_t>(flow)].by_layer) last = std::max(last, other);
    for (std::int32_t of = flow; of <= last; ++of) visit(of);
  }
  void summarize(std::int64_t layer, const std::vector<OwnedPage>&);
  ir::RowPages rows_of(const Work&, std::int64_t layer) const;
  void check(const Slice&) const;
  void place_slots();
  Part part_of(const Work&, std::int64_t layer) const;
  void turn_to(std::int64_t layer);
  std::int32_t attended_tokens(const Work& work, std::int32_t attended) const {
    const std::int64_t page_size = flow_of(work).config.page_size;
    return static_cast<std::int32_t>(attended * page_size - (work.pages * page_size - work.tokens));
  }
  std::int32_t* list_of(const Work& work, std::int64_t head) const {
    return lists.get() + work.list + (work.now.slot * geometry.kv_heads + head) * work.list_room;
  }
  std::int32_t& count_of(const Work& work, std::int64_t head) const {
    return list_counts.get()[work.counts + work.now.slot * geometry.kv_heads + head];
  }
  std::int32_t length_of(const Work& work, std::int64_t head) const {
    return chooser(work).is_counted() ? work.now.attended : count_of(work, head);
  }
  void plan();
  void recall(std::int64_t layer);
  void keep(std::int64_t layer);
  void measure_lists();
  void rebuild_missing();
};

StepWorkspace::StepWorkspace() : state_(std::make_unique<State>()) {}
StepWorkspace::~StepWorkspace() = default;

void StepWorkspace::State::check(const Slice& slice) const {
  VORTEX_CHECK(slice.token_count >= 1 && slice.context >= 0, slice.token_count, " tokens after ", slice.context);
  const std::int64_t tokens = static_cast<std::int64_t>(slice.context) + slice.token_count;
  VORTEX_CHECK(slice.page_table && slice.page_count * geometry.page_size >= tokens, slice.page_count, " pages of ",
               geometry.page_size, " tokens for ", tokens, " tokens");
  VORTEX_CHECK(slice.flow >= -1 && slice.flow < static_cast<std::int64_t>(flows.size()), "flow ", slice.flow, " of ",
               flows.size());
  VORTEX_CHECK(slice.flow >= 0 || !slice.sparse, "a sparse slice without a flow");
  if (slice.flow < 0) return;
  const LoadedFlow& loaded = flows[static_cast<std::size_t>(slice.flow)];
  VORTEX_CHECK(loaded.flow, "flow ", slice.flow, " was unloaded");
  VORTEX_CHECK(loaded.config.page_size >= 1 && loaded.config.page_size % geometry.page_size == 0, "flow pages of ",
               loaded.config.page_size, " tokens over pages of ", geometry.page_size);
  const ir::Geometry& made_for = loaded.flow->plan().geometry;
  VORTEX_CHECK(made_for.page_size == loaded.config.page_size && made_for.head_dim == geometry.head_dim &&
                   made_for.value_channels() == geometry.value_channels() && made_for.group == geometry.group,
               "a flow compiled for page_size ", made_for.page_size, ", head_dim ", made_for.head_dim, ", value_dim ",
               made_for.value_channels(), ", group ", made_for.group);
  each_flow(slice.flow, [&](std::int32_t of) {
    const LoadedFlow& each = flows[static_cast<std::size_t>(of)];
    const std::int64_t fields = static_cast<std::int64_t>(each.flow->fields().size());
    VORTEX_CHECK(fields == (each.arena ? each.arena->fields() : 0), fields, " fields");
    VORTEX_CHECK(each.config.page_size == loaded.config.page_size, "layers of pages of ", each.config.page_size,
                 " and ", loaded.config.page_size);
  });
  if (!slice.sparse || slice.token_count > 1 || (loaded.config.refresh_every <= 1 && loaded.all_states().empty()))
    return;
  VORTEX_CHECK(slice.memory && slice.memory->room() * loaded.config.page_size >= tokens, "memory of ",
               slice.memory ? slice.memory->room() : 0, " pages for ", tokens, " tokens");
}

ir::RowPages StepWorkspace::State::rows_of(const Work& work, std::int64_t of) const {
  const LoadedFlow& loaded = flows[static_cast<std::size_t>(flow_at(work.slice.flow, of))];
  return loaded.flow->rows()(loaded.config, {.geometry = {.page_size = loaded.config.page_size},
                                             .tokens = work.tokens,
                                             .step = work.slice.step,
                                             .layer = of,
                                             .layers = geometry.layers,
                                             .scale = geometry.scale});
}

// A flow's lists share one slot, unless a layer in between would overwrite one that a later layer takes.
void StepWorkspace::State::place_slots() {
  slots.assign(flows.size() * static_cast<std::size_t>(geometry.layers), 0);
  slot_counts.assign(flows.size(), 1);
  for (std::size_t f = 0; f < flows.size(); ++f) {
    const ir::FlowConfig& config = flows[f].config;
    if (!flows[f].flow || !config.reuses()) continue;
    bool in_turn = true;
    std::int64_t last = -1;
    for (std::int64_t of = 0; of < geometry.layers; ++of) {
      const std::int64_t source = config.source_of(of);
      if (config.is_full(of)) continue;
      in_turn = in_turn && (source == of || source == last);
      if (source == of) last = of;
    }
    if (in_turn) continue;
    for (const auto& [taker, source] : config.reuse) {
      if (taker >= geometry.layers) continue;
      std::int32_t& slot = slots[f * static_cast<std::size_t>(geometry.layers) + static_cast<std::size_t>(source)];
      if (slot == 0) slot = slot_counts[f]++;
    }
  }
}

StepWorkspace::State::Part StepWorkspace::State::part_of(const Work& work, std::int64_t of) const {
  Part part;
  if (work.pages == 0) return part;  // decodes with full attention; it may have no flow
  const ir::FlowConfig& config = flow_of(work).config;
  if (config.is_full(of)) return part;
  const std::int64_t source = config.source_of(of);
  const ir::RowPages row = work.by_layer ? rows_of(work, source) : work.budget;
  part.covered = !row.selects();
  const std::int32_t at = flow_at(work.slice.flow, source);
  const codegen::CpuFlow& flow = *flows[static_cast<std::size_t>(at)].flow;
  if (part.covered && (flow.states().empty() || source != of)) return part;
  part.flow = at;
  part.attended = static_cast<std::int32_t>(row.attended);
  part.candidates = static_cast<std::int32_t>(row.candidates);
  part.first = static_cast<std::int32_t>(row.first);
  part.slot = slots[static_cast<std::size_t>(work.slice.flow * geometry.layers + source)];
  const RowMemory* memory = work.slice.memory;
  const std::int32_t kept = config.refresh_every > 1 ? memory->kept_pages(source) : 0;
  const bool keeps = kept > 0 && kept <= work.pages && work.slice.step % config.refresh_every != 0;
  part.turn = part.covered ? Turn::advance : source != of ? Turn::take : keeps ? Turn::recall : Turn::score;
  if (keeps && flow.is_counted())
    part.attended = static_cast<std::int32_t>(memory->kept(source, 0).size()) + work.pages - kept;
  return part;
}

// Whether the plans hold for a layer; if not, they are laid out for it.
void StepWorkspace::State::turn_to(std::int64_t of) {
  bool all_take = true, same = planned;
  for (Work& work : works) {
    work.now = part_of(work, of);
    all_take = all_take && (work.now.turn == Turn::full || work.now.turn == Turn::take);
    Part now = work.now;
    if (now.turn == Turn::take && work.planned.turn > Turn::advance) now.turn = work.planned.turn;
    same = same && now == work.planned;
  }
  taken = same && all_take;
  for (const Work& work : works) same = same && (all_take || work.now == work.planned);
  if (same) return;
  for (Work& work : works) work.planned = work.now;
  plan();
}

// Fields of every loaded flow as they lie in one layer.
void StepWorkspace::State::set_layer(std::int64_t of) {
  for (std::size_t f = 0; f < flows.size(); ++f) {
    if (!flows[f].flow || !flows[f].arena) continue;
    for (std::int64_t i = 0; i < flows[f].arena->fields(); ++i)
      blocks[static_cast<std::size_t>(first_block[f] + i)] = flows[f].arena->block(
          flows[f].arena_layer.empty() ? of : flows[f].arena_layer[static_cast<std::size_t>(of)], i);
  }
}

CpuStep::CpuStep(const Geometry& geometry, std::span<const KvView> layers, std::span<const LoadedFlow> flows,
                 std::span<const Slice> slices, StepWorkspace& workspace, ThreadPool& pool)
    : state_(workspace.state()) {
  StepWorkspace::State& s = state_;
  geometry.validate();
  VORTEX_CHECK(static_cast<std::int64_t>(layers.size()) == geometry.layers, "KV of ", layers.size(), " layers");
  s.geometry = geometry;
  s.kv = layers;
  s.flows = flows;
  s.pool = &pool;
  s.slices.assign(slices.begin(), slices.end());
  for (const Slice& slice : slices) s.check(slice);

  s.first_block.assign(flows.size(), 0);
  std::int64_t blocks = 0;
  for (std::size_t f = 0; f < flows.size(); ++f) {
    s.first_block[f] = blocks;
    if (flows[f].flow) blocks += static_cast<std::int64_t>(flows[f].flow->fields().size());
  }
  s.blocks.resize(static_cast<std::size_t>(blocks));

  // Pages that get new contents lose their summaries in every arena.
  for (const Slice& slice : slices) {
    const std::int64_t last = (slice.context + slice.token_count - 1) / geometry.page_size;
    for (std::int64_t page = slice.context / geometry.page_size; page <= last; ++page)
      for (const LoadedFlow& loaded : flows)
        if (loaded.flow && loaded.arena) loaded.arena->invalidate(slice.page_table[page]);
  }

  s.works.clear();
  s.finished.clear();
  s.missing.clear();
  s.place_slots();
  std::int64_t list_pages = 0, list_counts = 0, summary_pages = 0;
  for (const Slice& slice : slices) {
    StepWorkspace::State::Work work;
    work.slice = slice;
    work.tokens = slice.context + slice.token_count;
    if (slice.flow >= 0) {
      const LoadedFlow& loaded = flows[static_cast<std::size_t>(slice.flow)];
      const std::int64_t page_size = loaded.config.page_size, merged = page_size / geometry.page_size;
      // A full page, and the groups whose last page it is: their summaries are kept with it.
      auto add_page = [&](std::int64_t page, std::int32_t of, std::vector<StepWorkspace::State::OwnedPage>& to) {
        const std::size_t f = static_cast<std::size_t>(of);
        auto add = [&](std::int64_t pages) {
          const std::int32_t* physical = slice.page_table + (page + 1 - pages) * merged;
          to.push_back({{flows[f].flow.get(), s.blocks.data() + s.first_block[f], physical,
                         static_cast<std::int32_t>(pages * page_size), static_cast<std::int32_t>(pages)},
                        slice.flow,
                        of,
                        physical[pages * merged - 1]});
        };
        add(1);
        for (std::int64_t pages : flows[f].flow->groups())
          if ((page + 1) % pages == 0) add(pages);
      };
      s.each_flow(slice.flow, [&](std::int32_t of) {
        if (flows[static_cast<std::size_t>(of)].arena)
          for (std::int64_t page = slice.context / page_size; page < work.tokens / page_size; ++page)
            add_page(page, of, s.finished);
      });
      if (slice.sparse && slice.token_count == 1) {
        work.by_layer = loaded.flow->rows().by_layer() || !loaded.by_layer.empty();
        bool any_length = loaded.config.refresh_every > 1, stateful = false;
        s.each_flow(slice.flow, [&](std::int32_t of) {
          const codegen::CpuFlow& flow = *flows[static_cast<std::size_t>(of)].flow;
          any_length = any_length || !flow.is_counted();
          stateful = stateful || !flow.states().empty();
        });
        for (std::int64_t of = work.by_layer ? geometry.layers - 1 : 0; of >= 0; --of) {
          const ir::RowPages row = s.rows_of(work, of);
          work.pages = static_cast<std::int32_t>(row.pages);
          if (!work.by_layer) work.budget = row;
          if (row.selects())
            work.list_room = std::max(work.list_room, static_cast<std::int32_t>(any_length ? row.pages : row.attended));
        }
        if (work.list_room > 0 || stateful) {
          const std::int64_t rows = s.slot_counts[static_cast<std::size_t>(slice.flow)] * geometry.kv_heads;
          work.list = list_pages;
          list_pages += rows * work.list_room;
          work.counts = list_counts;
          list_counts += rows;
          if (merged > 1) {
            work.summary_pages = summary_pages;
            summary_pages += work.tokens / page_size;
          }
          s.each_flow(slice.flow, [&](std::int32_t of) {
            const LoadedFlow& each = flows[static_cast<std::size_t>(of)];
            if (!each.arena || !each.flow->plan().program.chooses()) return;
            const std::int64_t first = each.config.sinks;
            const std::int64_t end = first + work.pages - ir::pinned_of(each.config, work.pages);
            const std::vector<std::int64_t> groups = each.flow->groups();
            // A group that is scored may end among the recent pages.
            auto is_read = [&](std::int64_t page) {
              return page < end || std::any_of(groups.begin(), groups.end(), [&](std::int64_t pages) {
                       return (page + 1) % pages == 0 && page + 1 - pages < end;
                     });
            };
            for (std::int64_t page = first; page < std::max(work.tokens / page_size, end); ++page)
              if (is_read(page) && !each.arena->is_valid(slice.page_table[(page + 1) * merged - 1]))
                add_page(page, of, s.missing);
          });
        }
      }
    }
    s.works.push_back(work);
  }
  std::int32_t* homes = s.summary_pages.reserve(summary_pages);
  s.lists.reserve(list_pages);
  s.list_counts.reserve(list_counts);
  for (const StepWorkspace::State::Work& work : s.works) {
    if (work.summary_pages < 0) continue;
    const std::int64_t page_size = s.flow_of(work).config.page_size, merged = page_size / geometry.page_size;
    for (std::int64_t page = 0; page < work.tokens / page_size; ++page)
      homes[work.summary_pages + page] = work.slice.page_table[(page + 1) * merged - 1];
  }

  std::vector<LayerCounts> kept = std::move(s.statistics.layers);
  s.statistics = StepStatistics{};
  kept.assign(static_cast<std::size_t>(geometry.layers), LayerCounts{});
  s.statistics.layers = std::move(kept);
  s.planned = s.taken = false;
  s.layer = -1;
  s.rebuild_missing();
}

// Those of the pages whose summaries a layer's own flow makes.
void StepWorkspace::State::summarize(std::int64_t of, const std::vector<OwnedPage>& pages) {
  layer_pages.clear();
  for (const OwnedPage& page : pages)
    if (flow_at(page.owner, of) == page.flow) layer_pages.push_back(page.page);
  if (!layer_pages.empty()) summarizer.run(geometry, kv[static_cast<std::size_t>(of)], layer_pages, *pool, of);
}

void StepWorkspace::State::rebuild_missing() {
  if (missing.empty()) return;
  const Clock::time_point start = Clock::now();
  // Sequences that share a prefix ask for the same page.
  auto key = [](const OwnedPage& page) { return std::tuple(page.flow, page.home, page.page.pages); };
  std::sort(missing.begin(), missing.end(), [&](const OwnedPage& a, const OwnedPage& b) { return key(a) < key(b); });
  missing.erase(std::unique(missing.begin(), missing.end(),
                            [&](const OwnedPage& a, const OwnedPage& b) { return key(a) == key(b); }),
                missing.end());
  for (std::int64_t of = 0; of < geometry.layers; ++of) {
    set_layer(of);
    summarize(of, missing);
  }
  for (const OwnedPage& page : missing) flows[static_cast<std::size_t>(page.flow)].arena->validate(page.home);
  statistics.rebuilt_pages =
      std::count_if(missing.begin(), missing.end(), [](const OwnedPage& page) { return page.page.pages == 1; });
  statistics.summarize_seconds += since(start);
}

// Lays out scoring and attending for the layers in which every slice does what it does in this one.
void StepWorkspace::State::plan() {
  score_rows.clear();
  scored_attend_rows.clear();
  attend_rows.clear();
  open_rows.clear();
  std::int64_t rest_floats = 0;
  counts = LayerCounts{};
  kv_bytes = 0;
  for (const Work& work : works) {
    const Slice& slice = work.slice;
    const bool sparse = work.sparse();
    for (std::int32_t head = 0; head < geometry.kv_heads; ++head) {
      AttendRow row;
      row.kv_head = head;
      row.first_query = slice.first_token;
      row.queries = slice.token_count;
      row.tokens = work.tokens;
      row.page_table = slice.page_table;
      if (sparse) {
        const LoadedFlow& loaded = flow_of(work);
        std::int32_t* list = list_of(work, head);
        row.list = list;
        row.list_count = work.now.attended;
        row.list_page_size = static_cast<std::int32_t>(loaded.config.page_size);
        row.list_tokens = attended_tokens(work, row.list_count);
        if (!chooser(work).is_counted())
          open_rows.push_back({attend_rows.size(), static_cast<std::size_t>(&work - works.data()), head});
        ++counts.sparse_rows;
        counts.reused_rows += work.now.turn != Turn::score;
      }
      if (work.now.turn == Turn::score || work.now.turn == Turn::advance) {
        const LoadedFlow& loaded = flows[static_cast<std::size_t>(work.now.flow)];
        ScoreRow score;
        score.flow = loaded.flow.get();
        score.fields = blocks.data() + first_block[static_cast<std::size_t>(work.now.flow)];
        score.summary_pages =
            (work.summary_pages < 0 ? slice.page_table : summary_pages.get() + work.summary_pages) + work.now.first;
        score.kv_head = head;
        score.query = slice.first_token;
        score.candidates = work.now.candidates;
        score.first = work.now.first;
        score.pages = work.pages;
        score.chosen = work.now.attended - (work.pages - work.now.candidates);
        score.tokens = work.tokens;
        score.step = slice.step;
        score.memory = slice.memory;
        score.first_state = loaded.first_state;
        score.list = sparse ? list_of(work, head) : nullptr;
        if (sparse && !loaded.flow->is_counted()) score.count = &count_of(work, head);
        score_rows.push_back(score);
        scored_attend_rows.push_back(attend_rows.size());
        if (sparse && score.scores()) rest_floats += loaded.flow->rest_floats();
        if (loaded.flow->plan().program.chooses() && score.scores()) counts.candidates += work.now.candidates;
      }
      attend_rows.push_back(row);
      if (slice.token_count > 1) continue;
      ++counts.rows;
      counts.covered_rows += work.now.covered;
      counts.attended_tokens += row.attended_tokens();
      counts.attended_pages += sparse           ? work.now.attended
                               : work.pages > 0 ? work.pages
                                                : ceil_div(work.tokens, geometry.page_size);
      kv_bytes += row.attended_tokens() * geometry.token_bytes();
    }
  }
  // Addresses that hold from here on: of rests.
  float* rest = rests.reserve(rest_floats);
  for (std::size_t r = 0; r < score_rows.size(); ++r) {
    ScoreRow& row = score_rows[r];
    if (const std::int64_t floats = row.list != nullptr && row.scores() ? row.flow->rest_floats() : 0; floats > 0) {
      attend_rows[scored_attend_rows[r]].rest = row.rest = rest;
      rest += floats;
    }
  }
  score_plan.make(geometry, score_rows, pool->threads());
  attend_plan.make(geometry, attend_rows, pool->threads());
  planned = true;
}

// The lists of an earlier step, and the pages that came since.
void StepWorkspace::State::recall(std::int64_t of) {
  for (const Work& work : works) {
    if (work.now.turn != Turn::recall) continue;
    const RowMemory& memory = *work.slice.memory;
    for (std::int64_t head = 0; head < geometry.kv_heads; ++head) {
      const std::span<const std::int32_t> kept = memory.kept(of, head);
      std::int32_t* list = std::copy(kept.begin(), kept.end(), list_of(work, head));
      for (std::int32_t page = memory.kept_pages(of); page < work.pages; ++page) *list++ = page;
      count_of(work, head) = static_cast<std::int32_t>(list - list_of(work, head));
    }
  }
}

// What was chosen, for the steps to come.
void StepWorkspace::State::keep(std::int64_t of) {
  for (const Work& work : works) {
    if (work.now.turn != Turn::score || flow_of(work).config.refresh_every <= 1) continue;
    RowMemory& memory = *work.slice.memory;
    for (std::int64_t head = 0; head < geometry.kv_heads; ++head)
      memory.keep(of, head, {list_of(work, head), static_cast<std::size_t>(length_of(work, head))});
    memory.keep_pages(of, work.pages);
  }
}

// Lists are as long as the sets that were chosen: attending is laid out anew.
void StepWorkspace::State::measure_lists() {
  for (const OpenRow& open : open_rows) {
    const Work& work = works[open.work];
    AttendRow& row = attend_rows[open.attend_row];
    const std::int32_t tokens = row.list_tokens;
    const std::int32_t count = count_of(work, open.head);
    row.list_tokens = attended_tokens(work, count);
    counts.attended_pages += count - row.list_count;
    counts.attended_tokens += row.list_tokens - tokens;
    kv_bytes += (row.list_tokens - tokens) * geometry.token_bytes();
    row.list_count = count;
  }
  attend_plan.make(geometry, attend_rows, pool->threads());
}

void CpuStep::run(std::int32_t layer, const float* q, const float* k, const float* v, float* out) {
  StepWorkspace::State& s = state_;
  VORTEX_CHECK(layer > s.layer && layer < s.geometry.layers, "layer ", layer, " after layer ", s.layer, " of ",
               s.geometry.layers);
  s.layer = layer;
  const KvView& kv = s.kv[static_cast<std::size_t>(layer)];
  s.set_layer(layer);
  s.turn_to(layer);

  StepStatistics& statistics = s.statistics;
  Clock::time_point start = Clock::now();
  append_tokens(s.geometry, kv, s.slices, k, v, *s.pool);
  statistics.append_seconds += since(start);
  if (!s.finished.empty()) {
    start = Clock::now();
    s.summarize(layer, s.finished);
    statistics.summarize_seconds += since(start);
    statistics.summarized_pages +=
        s.geometry.kv_heads *
        std::count_if(s.layer_pages.begin(), s.layer_pages.end(), [](const FullPage& page) { return page.pages == 1; });
  }
  const double share = 1.0 / s.pool->threads();
  double score_busy[2] = {0, 0}, attend_busy[2] = {0, 0};
  LayerCounts counts;
  if (s.taken) {
    counts = s.counts;
    counts.candidates = 0;
    counts.reused_rows = counts.sparse_rows;
  } else {
    s.score_plan.run(layer, s.geometry.layers, q, *s.pool, score_busy);
    start = Clock::now();
    s.recall(layer);
    if (!s.open_rows.empty()) s.measure_lists();
    s.keep(layer);
    statistics.select_seconds += since(start);
    statistics.summary_bytes += s.score_plan.summary_bytes();
    counts = s.counts;
  }
  s.attend_plan.run(kv, q, out, *s.pool, attend_busy);
  statistics.score_seconds += score_busy[0] * share;
  statistics.select_seconds += score_busy[1] * share;
  statistics.attend_seconds += attend_busy[0] * share;
  statistics.prefill_seconds += attend_busy[1] * share;
  statistics.layers[static_cast<std::size_t>(layer)] = counts;
  statistics.kv_bytes += s.kv_bytes;

  if (layer + 1 == s.geometry.layers)
    for (const StepWorkspace::State::OwnedPage& page : s.finished)
      s.flows[static_cast<std::size_t>(page.flow)].arena->validate(page.home);
}

const StepStatistics& CpuStep::statistics() const { return state_.statistics; }

std::span<const std::int32_t> CpuStep::selected(std::int64_t slice, std::int64_t kv_head) const {
  const StepWorkspace::State& s = state_;
  VORTEX_CHECK(
      slice >= 0 && slice < static_cast<std::int64_t>(s.works.size()) && kv_head >= 0 && kv_head < s.geometry.kv_heads,
      "slice ", slice, ", KV head ", kv_head);
  const StepWorkspace::State::Work& work = s.works[static_cast<std::size_t>(slice)];
  if (s.layer < 0 || !work.sparse()) return {};
  return {s.list_of(work, kv_head), static_cast<std::size_t>(s.length_of(work, kv_head))};
}

}  // namespace vortex::attention
