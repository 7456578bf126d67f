// Attends rows of one layer over page lists: decode rows and blocks of prefill tokens through the same split
// arithmetic. Work is cut into items of about equal cost; where the cuts fall does not change a bit, because splits
// merge in a tree that is fixed by their number: T(n) = merge(T(p), T(n - p)), p the largest power of two below n.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/cpu/memory.h"
#include "attention/cpu/split.h"
#include "attention/types.h"
#include "base/thread_pool.h"

namespace vortex::attention {

// Query tokens [first_query, first_query + queries) of one sequence for one KV head.
struct AttendRow {
  std::int32_t kv_head = 0;
  std::int32_t first_query = 0;              // row of the step's token array
  std::int32_t queries = 1;                  // decode: 1
  std::int32_t tokens = 0;                   // tokens that the last query sees; each query before it sees one fewer
  const std::int32_t* page_table = nullptr;  // physical page of each logical one
  const std::int32_t* list = nullptr;  // ascending pages of list_page_size tokens; null: all. Only with queries == 1
  std::int32_t list_count = 0;
  std::int32_t list_page_size = 0;  // a multiple of the physical page
  std::int32_t list_tokens = 0;     // tokens of the listed pages: the sequence's last page may be unfinished
  const float* rest =
      nullptr;  // of the pages that are not listed: logit [group], −inf for none, value [group, value_dim]

  std::int64_t attended_tokens() const { return list ? list_tokens : tokens; }
};

// A range of a row's work. Decode: splits [first, last) of the list. Prefill: queries [first, last).
struct AttendItem {
  std::int32_t row = 0;
  std::int32_t first = 0, last = 0;
  std::int32_t part = -1;  // number of this item among its row's parts; -1: it finishes the row alone
  std::int64_t cost = 0;
};

class AttendPlan {
 public:
  // Rows are copied; what they point to must outlive the plan's use, and lists may be filled in later.
  void make(const Geometry&, std::span<const AttendRow> rows, int threads);

  // q: [tokens, kv_heads · group, head_dim], out: [tokens, kv_heads · group, value_dim]; out may be q where these are
  // equal. busy: [2] seconds summed over threads spent on decode
  // rows and on prefill, added to.
  void run(const KvView&, const float* q, float* out, ThreadPool&, double* busy);

 private:
  struct Worker {
    Split splits[3];  // two in turn, and the first of the item that is likely to come next
    Scratch<std::int32_t> visible;
    Scratch<float> q, kernel, partials;
    double busy[2];
  };
  // after: the split this worker is likely to attend next, or null.
  void attend_decode(const AttendItem&, const KvView&, const float* q, float* out, const Split* after, Worker&);
  void attend_prefill(const AttendItem&, const KvView&, const float* q, float* out, Worker&);
  const Split* likely_next(std::int64_t index, const KvView&, Worker&) const;
  // Leaves the merged partial of splits [first, last) at worker.partials.
  Partial attend_range(const AttendRow&, const KvView&, std::int64_t rows, const float* q, const std::int32_t* seen,
                       std::int64_t first, std::int64_t last, const Split* after, Worker&);
  void join_rest(const float* rest, const Partial&, float* out) const;
  void scale_q(const float* from, std::int64_t count, float* to) const;

  Geometry geometry_;
  std::vector<AttendRow> rows_;
  std::vector<AttendItem> items_;
  std::vector<std::int32_t> first_part_, parts_;  // [rows] of the parts of all rows
  std::vector<std::unique_ptr<Worker>> workers_;
  std::unique_ptr<std::atomic<std::int32_t>[]> arrived_;  // [rows]
  std::int64_t arrived_capacity_ = 0;
  Scratch<float> part_memory_;
  std::int64_t part_floats_ = 0;
};

}  // namespace vortex::attention
