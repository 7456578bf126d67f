#include "attention/cpu/score.h"

#include <algorithm>
#include <chrono>

#include "attention/cpu/select.h"
#include "base/check.h"

namespace vortex::attention {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int32_t kChunkPages = 512;
constexpr std::int64_t kTasksAThread = 4;  // or more, before the rows of a sequence become one task
constexpr std::int32_t kCutFrom = 1024;    // candidates; below, a row is done before another thread has joined

double since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

}  // namespace

void ScorePlan::make(const Geometry& geometry, std::span<const ScoreRow> rows, int threads) {
  geometry_ = geometry;
  rows_.assign(rows.begin(), rows.end());
  std::int32_t most = 0;
  std::int64_t workspace = 0, scratch = 0, fields = 0;
  std::size_t states = 0;
  stages_ = 0;
  for (const ScoreRow& row : rows_) {
    VORTEX_CHECK(row.flow && row.chosen >= 0 && row.chosen <= row.candidates && row.first + row.candidates <= row.pages,
                 row.chosen, " of ", row.candidates, " candidates from ", row.first, " on, of ", row.pages, " pages");
    VORTEX_CHECK(row.chosen == 0 || row.flow->page_stages() >= 1, "a flow without a page stage");
    most = std::max(most, row.candidates);
    workspace = std::max(workspace, row.flow->workspace_floats(row.candidates));
    scratch = std::max(scratch, row.flow->scratch_floats());
    fields = std::max(fields, static_cast<std::int64_t>(row.flow->fields().size()));
    states = std::max(states, row.flow->states().size());
    stages_ = std::max(stages_, row.flow->page_stages());
  }
  // Rows of a sequence stand together.
  tasks_.clear();
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (i > 0 && together(rows_[i - 1], rows_[i]))
      ++tasks_.back().count;
    else
      tasks_.push_back({static_cast<std::int32_t>(i), 1});
  }
  if (threads > 1 && static_cast<std::int64_t>(tasks_.size()) < kTasksAThread * threads) {
    tasks_.resize(rows_.size());
    for (std::size_t i = 0; i < rows_.size(); ++i) tasks_[i] = {static_cast<std::int32_t>(i), 1};
  }
  task_rows_ = 1;
  for (const Task& task : tasks_) task_rows_ = std::max(task_rows_, static_cast<std::size_t>(task.count));
  std::sort(tasks_.begin(), tasks_.end(), [&](const Task& a, const Task& b) {
    const std::int32_t more = rows_[static_cast<std::size_t>(a.first)].candidates,
                       less = rows_[static_cast<std::size_t>(b.first)].candidates;
    return more != less ? more > less : a.first < b.first;
  });
  chunks_.clear();
  chunks_of_.assign(rows_.size(), 0);
  const bool cut = threads > 1 && most >= kCutFrom && static_cast<std::int64_t>(rows_.size()) < 4 * threads;
  if (cut)
    for (const Task& task : tasks_) {
      const std::int32_t r = task.first;  // few rows: one a task
      const std::size_t row = static_cast<std::size_t>(r);
      if (!rows_[row].scores()) continue;
      for (std::int32_t begin = 0; begin < rows_[row].candidates; begin += kChunkPages, ++chunks_of_[row])
        chunks_.push_back({r, begin, std::min(begin + kChunkPages, rows_[row].candidates)});
    }

  // Chunks of a row meet in the row's slot; rows that are not cut use those of their worker.
  const std::size_t slots = chunks_.empty() ? static_cast<std::size_t>(threads) * task_rows_ : rows_.size();
  row_arguments_.resize(std::max(row_arguments_.size(), slots));
  while (slots_.size() < slots) slots_.push_back(std::make_unique<Slot>());
  for (std::size_t i = 0; i < slots; ++i) {
    slots_[i]->q.reserve(geometry.group * geometry.head_dim);
    slots_[i]->scores.reserve(most);
    slots_[i]->workspace.reserve(workspace);
    slots_[i]->keys.reserve(most);
    slots_[i]->fields.reserve(fields);
    if (slots_[i]->states.size() < states) slots_[i]->states.resize(states);
  }
  while (workers_.size() < static_cast<std::size_t>(threads)) workers_.push_back(std::make_unique<Worker>());
  for (auto& worker : workers_) worker->scratch.reserve(scratch * static_cast<std::int64_t>(task_rows_));
  if (rows_.size() > arrived_capacity_) {
    arrived_capacity_ = rows_.size();
    arrived_ = std::make_unique<std::atomic<std::int32_t>[]>(arrived_capacity_);
  }
}

bool ScorePlan::together(const ScoreRow& a, const ScoreRow& b) const {
  return a.flow == b.flow && a.fields == b.fields && a.summary_pages == b.summary_pages && a.query == b.query &&
         a.candidates == b.candidates && a.first == b.first && a.pages == b.pages && a.chosen == b.chosen;
}

void ScorePlan::start(const ScoreRow& row, std::int64_t layer, std::int64_t layers, const float* q, std::size_t index,
                      Worker& worker) {
  Slot& slot = *slots_[index];
  const std::int64_t floats = geometry_.group * geometry_.head_dim;
  const float* from = q + (static_cast<std::int64_t>(row.query) * geometry_.kv_heads + row.kv_head) * floats;
  float* scaled = slot.q.get();
  for (std::int64_t i = 0; i < floats; ++i) scaled[i] = from[i] * geometry_.scale;
  codegen::FieldView* fields = slot.fields.get();
  for (std::size_t i = 0; i < row.flow->fields().size(); ++i) fields[i] = row.fields[i].of_head(row.kv_head);
  for (std::size_t i = 0; i < row.flow->states().size(); ++i)
    slot.states[i] =
        row.memory->state(row.first_state + static_cast<std::int64_t>(i), layer, row.kv_head, row.step, row.first);
  codegen::RowArguments& arguments = row_arguments_[index];
  arguments.q = scaled;
  arguments.fields = fields;
  arguments.summary_page = row.summary_pages;
  arguments.candidates = row.candidates;
  arguments.first_page = row.first;
  arguments.pages = row.pages;
  arguments.tokens = row.tokens;
  arguments.step = row.step;
  arguments.layer = layer;
  arguments.layers = layers;
  arguments.kv_head = row.kv_head;
  arguments.left = row.chosen;
  arguments.scale = geometry_.scale;
  arguments.states = slot.states.data();
  arguments.rest = row.rest;
  arguments.scores = slot.scores.get();
  arguments.workspace = slot.workspace.get();
  row.flow->run_row(arguments, worker.scratch.get());
}

void ScorePlan::run_stages(const codegen::CpuFlow& flow, std::span<const codegen::RowArguments> rows, Worker& worker) {
  for (int stage = 0; stage < flow.page_stages(); ++stage) {
    for (std::size_t r = 0; stage > 0 && r < rows.size(); ++r)
      flow.run_finish(stage - 1, rows[r], worker.scratch.get());
    flow.run_page(stage, rows, 0, rows[0].candidates, worker.scratch.get());
  }
}

std::int64_t ScorePlan::summary_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& worker : workers_) bytes += worker->summary_bytes;
  return bytes;
}

void ScorePlan::select(const ScoreRow& row, std::size_t index, Worker& worker) {
  Slot& slot = *slots_[index];
  if (row.scores()) worker.summary_bytes += row.flow->summary_bytes(row_arguments_[index]);
  if (row.list == nullptr) return;
  const Clock::time_point begin = Clock::now();
  std::int32_t* list = row.list;
  for (std::int32_t page = 0; page < row.first; ++page) *list++ = page;
  if (row.flow->chooses_set()) {
    const float* in_set = slot.scores.get();
    if (row.scores())
      for (std::int32_t i = 0; i < row.candidates; ++i)
        if (in_set[i] != 0.0f) *list++ = row.first + i;
  } else {
    select_top(slot.scores.get(), row.candidates, row.chosen, row.first, list, slot.keys.get());
    list += row.chosen;
  }
  for (std::int32_t page = row.first + row.candidates; page < row.pages; ++page) *list++ = page;
  if (row.count != nullptr) *row.count = static_cast<std::int32_t>(list - row.list);
  worker.busy[1] += since(begin);
}

void ScorePlan::run(std::int64_t layer, std::int64_t layers, const float* q, ThreadPool& pool, double* busy) {
  for (auto& worker : workers_) worker->busy[0] = worker->busy[1] = 0, worker->summary_bytes = 0;
  if (rows_.empty()) return;
  VORTEX_CHECK(static_cast<std::size_t>(pool.threads()) <= workers_.size(), pool.threads(), " threads");
  const std::int64_t rows = static_cast<std::int64_t>(rows_.size());
  if (chunks_.empty()) {
    pool.for_each(static_cast<std::int64_t>(tasks_.size()), [&](std::int64_t index, int w) {
      const Clock::time_point begin = Clock::now();
      const Task& task = tasks_[static_cast<std::size_t>(index)];
      const std::size_t count = static_cast<std::size_t>(task.count), first = static_cast<std::size_t>(w) * task_rows_;
      const ScoreRow* own = &rows_[static_cast<std::size_t>(task.first)];
      Worker& worker = *workers_[static_cast<std::size_t>(w)];
      if (own->scores()) {
        const codegen::CpuFlow& flow = *own->flow;
        const std::span<const codegen::RowArguments> arguments(row_arguments_.data() + first, count);
        for (std::size_t r = 0; r < count; ++r) start(own[r], layer, layers, q, first + r, worker);
        run_stages(flow, arguments, worker);
      }
      worker.busy[0] += since(begin);
      for (std::size_t r = 0; r < count; ++r) select(own[r], first + r, worker);
    });
  } else {
    pool.for_each(rows, [&](std::int64_t index, int w) {
      const Clock::time_point begin = Clock::now();
      const std::size_t r = static_cast<std::size_t>(index);
      Worker& worker = *workers_[static_cast<std::size_t>(w)];
      if (rows_[r].scores()) start(rows_[r], layer, layers, q, r, worker);
      if (chunks_of_[r] == 0) {  // of no candidates
        if (rows_[r].scores()) run_stages(*rows_[r].flow, std::span(&row_arguments_[r], 1), worker);
        select(rows_[r], r, worker);
      }
      worker.busy[0] += since(begin);
    });
    for (int stage = 0; stage < stages_; ++stage) {
      for (std::int64_t r = 0; r < rows; ++r) arrived_[static_cast<std::size_t>(r)].store(0, std::memory_order_relaxed);
      pool.for_each(static_cast<std::int64_t>(chunks_.size()), [&](std::int64_t index, int w) {
        const Clock::time_point begin = Clock::now();
        const Chunk& chunk = chunks_[static_cast<std::size_t>(index)];
        const std::size_t r = static_cast<std::size_t>(chunk.row);
        const ScoreRow& row = rows_[r];
        Worker& worker = *workers_[static_cast<std::size_t>(w)];
        const codegen::RowArguments& arguments = row_arguments_[r];
        const int own_stages = row.flow->page_stages();
        if (stage >= own_stages) return;
        row.flow->run_page(stage, std::span(&arguments, 1), chunk.begin, chunk.end, worker.scratch.get());
        // The last chunk of a row to arrive closes the stage for it.
        const bool last = arrived_[r].fetch_add(1, std::memory_order_acq_rel) + 1 == chunks_of_[r];
        if (last && stage + 1 < own_stages) row.flow->run_finish(stage, arguments, worker.scratch.get());
        worker.busy[0] += since(begin);
        if (last && stage + 1 == own_stages) select(row, r, worker);
      });
    }
  }
  for (auto& worker : workers_)
    for (int i = 0; i < 2; ++i) busy[i] += worker->busy[i];
}

}  // namespace vortex::attention
