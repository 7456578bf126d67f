// Scores the candidates of decode rows with their flows and fills their page lists. A task is the rows of a sequence
// together, whose summaries of a page lie side by side, or one row when that leaves threads idle; with few rows of many
// candidates a row is cut into chunks of pages. Neither changes a bit: a page's score comes from the same stages.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/arena.h"
#include "attention/cpu/memory.h"
#include "attention/row_memory.h"
#include "attention/types.h"
#include "base/thread_pool.h"

namespace vortex::attention {

struct ScoreRow {
  const codegen::CpuFlow* flow = nullptr;
  const FieldBlock* fields = nullptr;  // [flow->fields()] of the layer that runs; may be refilled between layers
  // [candidates] physical page that holds each candidate's summary; of a flow with groups all full pages from `first`
  // on.
  const std::int32_t* summary_pages = nullptr;
  std::int32_t kv_head = 0;
  std::int32_t query = 0;       // row of the step's token array
  std::int32_t candidates = 0;  // logical pages [first, first + candidates)
  std::int32_t first = 0;       // sinks before them
  std::int32_t pages = 0;       // of the row; those behind the candidates are recent
  std::int32_t chosen = 0;      // how many candidates to keep
  std::int64_t tokens = 0, step = 0;
  RowMemory* memory = nullptr;  // of a flow with state, whose states are those from first_state on
  std::int64_t first_state = 0;
  std::int32_t* list = nullptr;  // [list_count()], out; [pages] where the flow chooses a set that is not counted; null:
                                 // nothing is listed, the flow's state advances
  std::int32_t* count = nullptr;  // of such a set, out: pages on the list
  float* rest = nullptr;          // [flow->rest_floats()], out

  std::int32_t list_count() const { return pages - candidates + chosen; }
  // A set may hold pages whatever the budget leaves, and what is not chosen may have a rest.
  bool scores() const { return (candidates > 0 && (chosen > 0 || flow->chooses_set())) || !flow->states().empty(); }
};

class ScorePlan {
 public:
  void make(const Geometry&, std::span<const ScoreRow> rows, int threads);
  // q: [tokens, kv_heads · group, head_dim], unscaled. busy: [2] seconds summed over threads of scoring and of
  // selecting, added to.
  void run(std::int64_t layer, std::int64_t layers, const float* q, ThreadPool&, double* busy);
  std::int64_t summary_bytes() const;  // that the last run has read

 private:
  // Memory of a row while it is scored.
  struct Slot {
    Scratch<float> q, scores, workspace;
    Scratch<std::uint32_t> keys;
    Scratch<codegen::FieldView> fields;
    std::vector<codegen::StateView> states;
  };
  struct Worker {
    Scratch<float> scratch;
    double busy[2];
    std::int64_t summary_bytes = 0;
  };
  struct Chunk {
    std::int32_t row, begin, end;
  };
  // Rows [first, first + count) of one sequence.
  struct Task {
    std::int32_t first = 0, count = 1;
  };
  bool together(const ScoreRow&, const ScoreRow&) const;
  void start(const ScoreRow&, std::int64_t layer, std::int64_t layers, const float* q, std::size_t slot, Worker&);
  void select(const ScoreRow&, std::size_t slot, Worker&);
  void run_stages(const codegen::CpuFlow&, std::span<const codegen::RowArguments>, Worker&);

  Geometry geometry_;
  std::vector<ScoreRow> rows_;
  std::vector<Task> tasks_;    // those with the most candidates first
  std::vector<Chunk> chunks_;  // empty: rows are not cut
  std::vector<std::int32_t> chunks_of_;
  int stages_ = 0;
  std::vector<std::unique_ptr<Slot>> slots_;          // of rows, or of the rows of each worker's task
  std::vector<codegen::RowArguments> row_arguments_;  // [slots]
  std::size_t task_rows_ = 1;                         // at most
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<std::atomic<std::int32_t>[]> arrived_;
  std::size_t arrived_capacity_ = 0;
};

}  // namespace vortex::attention
