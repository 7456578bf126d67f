#include "attention/cpu/step.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "attention/cpu/append.h"
#include "attention/cpu/attend.h"
#include "attention/cpu/memory.h"
#include "attention/cpu/score.h"
#include "base/arithmetic.h"
#include "base/check.h"

namespace vortex::attention {

namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

struct StepWorkspace::State {
  // A slice and what its flow makes of it. Counts are in pages of the flow.
  struct Work {
    Slice slice;
    std::int32_t tokens = 0;    // context and new tokens
    std::int32_t pages = 0;     // 0: the slice decodes with full attention
    std::int32_t attended = 0;  // budget in the layer that runs; pinned ones when the flow has no score
    bool selects = false;       // in the layer that runs
    bool by_layer = false;      // the budget may differ from layer to layer
    std::int32_t candidates = 0, first = 0;
    std::int32_t attended_tokens = 0;
    std::int64_t list = 0;            // its lists [kv_heads, list_room] in `lists`
    std::int32_t list_room = 0;       // the most it attends in any layer where it selects
    std::int64_t summary_pages = -1;  // its candidates in `summary_pages`; -1: the page table has them
    bool scored = false;
    bool counted = true;    // as many pages as the budget says; else the set of each row does
    std::int64_t rest = 0;  // floats of a row's rest
  };

  Geometry geometry;
  std::span<const KvView> kv;
  std::span<const LoadedFlow> flows;
  ThreadPool* pool = nullptr;
  std::vector<Slice> slices;
  std::vector<Work> works;
  std::vector<std::uint8_t> sparse_here,
      sparse_planned;  // [flows] whether a flow is sparse in the layer, and in the plans
  bool planned = false;
  std::int32_t layer = -1;

  std::vector<FieldBlock> blocks;         // fields of all flows in the layer that runs
  std::vector<std::int64_t> first_block;  // [flows]
  struct OwnedPage {
    FullPage page;
    std::int32_t flow, home;  // home: the physical page that holds the summary
  };
  std::vector<OwnedPage> finished, missing;
  std::vector<FullPage> finished_pages, missing_pages;
  // A row whose list is as long as its set is large.
  struct OpenRow {
    std::size_t attend_row, work;
    std::int32_t count = 0;
  };
  std::vector<OpenRow> open_rows;
  Scratch<float> rests;
  std::vector<ScoreRow> score_rows;
  std::vector<AttendRow> attend_rows;
  Scratch<std::int32_t> lists, summary_pages;
  ScorePlan score_plan;
  AttendPlan attend_plan;
  Summarizer summarizer;
  LayerCounts counts;  // of a layer under the present plans
  std::int64_t summary_bytes = 0, kv_bytes = 0;
  StepStatistics statistics;

  void set_layer(std::int64_t of);
  ir::RowPages rows_of(const Work&, std::int64_t layer) const;
  void set_rows(Work&, const ir::RowPages&) const;
  void check(const Slice&) const;
  bool is_sparse(const Work& work) const {
    return work.pages > 0 && sparse_here[static_cast<std::size_t>(work.slice.flow)] != 0 && work.selects;
  }
  void plan();
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
  const std::int64_t fields = static_cast<std::int64_t>(loaded.flow->fields().size());
  VORTEX_CHECK(fields == (loaded.arena ? loaded.arena->fields() : 0), fields, " fields");
}

ir::RowPages StepWorkspace::State::rows_of(const Work& work, std::int64_t of) const {
  const LoadedFlow& loaded = flows[static_cast<std::size_t>(work.slice.flow)];
  return loaded.flow->rows()(loaded.config, {.geometry = {.page_size = loaded.config.page_size},
                                             .tokens = work.tokens,
                                             .step = work.slice.step,
                                             .layer = of,
                                             .layers = geometry.layers,
                                             .scale = geometry.scale});
}

void StepWorkspace::State::set_rows(Work& work, const ir::RowPages& row) const {
  const std::int64_t page_size = flows[static_cast<std::size_t>(work.slice.flow)].config.page_size;
  work.pages = static_cast<std::int32_t>(row.pages);
  work.attended = static_cast<std::int32_t>(row.attended);
  work.selects = row.selects();
  work.candidates = static_cast<std::int32_t>(row.candidates);
  work.first = static_cast<std::int32_t>(row.first);
  work.attended_tokens = static_cast<std::int32_t>(row.attended * page_size - (row.pages * page_size - work.tokens));
}

// Fields of every loaded flow as they lie in one layer.
void StepWorkspace::State::set_layer(std::int64_t of) {
  for (std::size_t f = 0; f < flows.size(); ++f) {
    if (!flows[f].flow || !flows[f].arena) continue;
    for (std::int64_t i = 0; i < flows[f].arena->fields(); ++i)
      blocks[static_cast<std::size_t>(first_block[f] + i)] = flows[f].arena->block(of, i);
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
  std::int64_t list_pages = 0, summary_pages = 0;
  for (const Slice& slice : slices) {
    StepWorkspace::State::Work work;
    work.slice = slice;
    work.tokens = slice.context + slice.token_count;
    if (slice.flow >= 0) {
      const LoadedFlow& loaded = flows[static_cast<std::size_t>(slice.flow)];
      const std::int64_t page_size = loaded.config.page_size, merged = page_size / geometry.page_size;
      const FieldBlock* fields = s.blocks.data() + s.first_block[static_cast<std::size_t>(slice.flow)];
      auto full_page = [&](std::int64_t page) {
        const std::int32_t* physical = slice.page_table + page * merged;
        return StepWorkspace::State::OwnedPage{
            {loaded.flow.get(), fields, physical, static_cast<std::int32_t>(page_size)},
            slice.flow,
            physical[merged - 1]};
      };
      if (loaded.arena)
        for (std::int64_t page = slice.context / page_size; page < work.tokens / page_size; ++page)
          s.finished.push_back(full_page(page));
      if (slice.sparse && slice.token_count == 1) {
        work.scored = loaded.flow->plan().program.chooses();
        work.counted = loaded.flow->is_counted();
        work.rest = loaded.flow->rest_floats();
        work.by_layer = loaded.flow->rows().by_layer();
        for (std::int64_t of = work.by_layer ? geometry.layers - 1 : 0; of >= 0; --of) {
          s.set_rows(work, s.rows_of(work, of));
          if (work.selects) work.list_room = std::max(work.list_room, work.counted ? work.attended : work.pages);
        }
        work.list = list_pages;
        if (work.list_room > 0) {
          list_pages += work.list_room * geometry.kv_heads;
          if (merged > 1) {
            work.summary_pages = summary_pages;
            summary_pages += work.candidates;
          }
          if (loaded.arena && work.scored)
            for (std::int64_t page = work.first; page < work.first + work.candidates; ++page)
              if (!loaded.arena->is_valid(slice.page_table[(page + 1) * merged - 1]))
                s.missing.push_back(full_page(page));
        }
      }
    }
    s.works.push_back(work);
  }
  std::int32_t* homes = s.summary_pages.reserve(summary_pages);
  s.lists.reserve(list_pages);
  for (const StepWorkspace::State::Work& work : s.works) {
    if (work.summary_pages < 0) continue;
    const std::int64_t merged = flows[static_cast<std::size_t>(work.slice.flow)].config.page_size / geometry.page_size;
    for (std::int64_t i = 0; i < work.candidates; ++i)
      homes[work.summary_pages + i] = work.slice.page_table[(work.first + i + 1) * merged - 1];
  }

  std::vector<LayerCounts> kept = std::move(s.statistics.layers);
  s.statistics = StepStatistics{};
  kept.assign(static_cast<std::size_t>(geometry.layers), LayerCounts{});
  s.statistics.layers = std::move(kept);
  s.sparse_here.assign(flows.size(), 0);
  s.planned = false;
  s.layer = -1;
  s.finished_pages.clear();
  for (const StepWorkspace::State::OwnedPage& page : s.finished) s.finished_pages.push_back(page.page);
  s.rebuild_missing();
}

void StepWorkspace::State::rebuild_missing() {
  missing_pages.clear();
  if (missing.empty()) return;
  const Clock::time_point start = Clock::now();
  // Sequences that share a prefix ask for the same page.
  auto key = [](const OwnedPage& page) { return std::pair(page.flow, page.home); };
  std::sort(missing.begin(), missing.end(), [&](const OwnedPage& a, const OwnedPage& b) { return key(a) < key(b); });
  missing.erase(std::unique(missing.begin(), missing.end(),
                            [&](const OwnedPage& a, const OwnedPage& b) { return key(a) == key(b); }),
                missing.end());
  for (const OwnedPage& page : missing) missing_pages.push_back(page.page);
  for (std::int64_t of = 0; of < geometry.layers; ++of) {
    set_layer(of);
    summarizer.run(geometry, kv[static_cast<std::size_t>(of)], missing_pages, *pool);
  }
  for (const OwnedPage& page : missing) flows[static_cast<std::size_t>(page.flow)].arena->validate(page.home);
  statistics.rebuilt_pages = static_cast<std::int64_t>(missing.size());
  statistics.summarize_seconds += since(start);
}

// Lays out scoring and attending for the layers in which the same flows are sparse.
void StepWorkspace::State::plan() {
  score_rows.clear();
  attend_rows.clear();
  open_rows.clear();
  std::int64_t rest_floats = 0;
  counts = LayerCounts{};
  summary_bytes = kv_bytes = 0;
  for (const Work& work : works) {
    const Slice& slice = work.slice;
    const bool sparse = is_sparse(work);
    for (std::int32_t head = 0; head < geometry.kv_heads; ++head) {
      AttendRow row;
      row.kv_head = head;
      row.first_query = slice.first_token;
      row.queries = slice.token_count;
      row.tokens = work.tokens;
      row.page_table = slice.page_table;
      if (sparse) {
        const LoadedFlow& loaded = flows[static_cast<std::size_t>(slice.flow)];
        std::int32_t* list = lists.get() + work.list + static_cast<std::int64_t>(head) * work.list_room;
        row.list = list;
        row.list_count = work.attended;
        row.list_page_size = static_cast<std::int32_t>(loaded.config.page_size);
        row.list_tokens = work.attended_tokens;
        ScoreRow score;
        score.flow = loaded.flow.get();
        score.fields = blocks.data() + first_block[static_cast<std::size_t>(slice.flow)];
        score.summary_pages =
            work.summary_pages < 0 ? slice.page_table + work.first : summary_pages.get() + work.summary_pages;
        score.kv_head = head;
        score.query = slice.first_token;
        score.candidates = work.candidates;
        score.first = work.first;
        score.pages = work.pages;
        score.chosen = work.attended - (work.pages - work.candidates);
        score.tokens = work.tokens;
        score.step = slice.step;
        score.list = list;
        score_rows.push_back(score);
        if (score.scores()) rest_floats += work.rest;
        if (!work.counted) open_rows.push_back({attend_rows.size(), static_cast<std::size_t>(&work - works.data())});
        ++counts.sparse_rows;
        if (work.scored && score.scores()) {
          counts.candidates += work.candidates;
          if (loaded.arena) summary_bytes += work.candidates * loaded.arena->bytes_per_page();
        }
      }
      attend_rows.push_back(row);
      if (slice.token_count > 1) continue;
      ++counts.rows;
      counts.covered_rows += work.pages > 0 && !sparse && sparse_here[static_cast<std::size_t>(slice.flow)] != 0;
      counts.attended_tokens += row.attended_tokens();
      counts.attended_pages += sparse           ? work.attended
                               : work.pages > 0 ? work.pages
                                                : ceil_div(work.tokens, geometry.page_size);
      kv_bytes += row.attended_tokens() * geometry.token_bytes();
    }
  }
  // Addresses that hold from here on: of counts and of rests.
  float* rest = rests.reserve(rest_floats);
  for (ScoreRow& row : score_rows) {
    if (const std::int64_t floats = row.scores() ? row.flow->rest_floats() : 0; floats > 0) {
      row.rest = rest;
      rest += floats;
    }
  }
  std::size_t at = 0, open = 0;
  for (AttendRow& row : attend_rows) {
    if (row.list == nullptr) continue;
    ScoreRow& score = score_rows[at++];
    row.rest = score.rest;
    if (!score.flow->is_counted()) score.count = &open_rows[open++].count;
  }
  score_plan.make(geometry, score_rows, pool->threads());
  attend_plan.make(geometry, attend_rows, pool->threads());
  sparse_planned = sparse_here;
  planned = true;
}

// Lists are as long as the sets that were chosen: attending is laid out anew.
void StepWorkspace::State::measure_lists() {
  for (const OpenRow& open : open_rows) {
    const Work& work = works[open.work];
    AttendRow& row = attend_rows[open.attend_row];
    const std::int32_t tokens = row.list_tokens;
    row.list_tokens = open.count * row.list_page_size - (work.pages * row.list_page_size - work.tokens);
    counts.attended_pages += open.count - row.list_count;
    counts.attended_tokens += row.list_tokens - tokens;
    kv_bytes += (row.list_tokens - tokens) * geometry.token_bytes();
    row.list_count = open.count;
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
  for (std::size_t f = 0; f < s.flows.size(); ++f) {
    const std::vector<std::int64_t>& full = s.flows[f].config.full_attention_layers;
    s.sparse_here[f] = s.flows[f].flow && !std::binary_search(full.begin(), full.end(), layer);
  }
  for (StepWorkspace::State::Work& work : s.works) {
    if (!work.by_layer) continue;
    const ir::RowPages row = s.rows_of(work, layer);
    s.planned = s.planned && row.attended == work.attended && row.selects() == work.selects;
    s.set_rows(work, row);
  }
  if (!s.planned || s.sparse_here != s.sparse_planned) s.plan();

  StepStatistics& statistics = s.statistics;
  Clock::time_point start = Clock::now();
  append_tokens(s.geometry, kv, s.slices, k, v, *s.pool);
  statistics.append_seconds += since(start);
  if (!s.finished.empty()) {
    start = Clock::now();
    s.summarizer.run(s.geometry, kv, s.finished_pages, *s.pool);
    statistics.summarize_seconds += since(start);
    statistics.summarized_pages += static_cast<std::int64_t>(s.finished.size()) * s.geometry.kv_heads;
  }
  const double share = 1.0 / s.pool->threads();
  double score_busy[2] = {0, 0}, attend_busy[2] = {0, 0};
  s.score_plan.run(layer, s.geometry.layers, q, *s.pool, score_busy);
  if (!s.open_rows.empty()) s.measure_lists();
  s.attend_plan.run(kv, q, out, *s.pool, attend_busy);
  statistics.score_seconds += score_busy[0] * share;
  statistics.select_seconds += score_busy[1] * share;
  statistics.attend_seconds += attend_busy[0] * share;
  statistics.prefill_seconds += attend_busy[1] * share;
  statistics.layers[static_cast<std::size_t>(layer)] = s.counts;
  statistics.summary_bytes += s.summary_bytes;
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
  if (s.layer < 0 || !s.is_sparse(work)) return {};
  std::int32_t count = work.attended;
  for (const StepWorkspace::State::OpenRow& open : s.open_rows)
    if (open.work == static_cast<std::size_t>(slice) && s.attend_rows[open.attend_row].kv_head == kv_head)
      count = open.count;
  return {s.lists.get() + work.list + kv_head * work.list_room, static_cast<std::size_t>(count)};
}

}  // namespace vortex::attention
