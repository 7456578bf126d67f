// A flow compiled for the CPU and bound to one geometry: tile programs over chunks of pages, no compiler at run time.
// Stages run in the order: row → page(0) → finish(0) → page(1) → ... → page(n-1), which leaves the scores.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/float16.h"
#include "compiler/plan.h"
#include "ir/op.h"
#include "ir/rows.h"

namespace vortex::codegen {

// One summary field: `elements` values of bf16 (or f32) for each physical page and KV head. That of a group of `pages`
// pages lies at the last physical page of the group.
struct FieldLayout {
  std::string name;
  std::int64_t elements = 0;
  ir::DType dtype = ir::DType::bf16;
  std::int64_t pages = 1;
};

// One state: `elements` floats of each page of a row, or of the row.
struct StateLayout {
  std::string name;
  std::int64_t elements = 0;
  bool of_pages = true;
  float initial = 0.0f;
};

// A state as one row sees it in one step: element e of candidate i is from[e · stride + i], and what it will be goes to
// `to`. Of a row: from[e].
struct StateView {
  const float* from = nullptr;
  float* to = nullptr;
  std::int64_t stride = 0;
};

// The summaries of one field as one row sees them: element e of physical page p is base[p · page_stride + e].
struct FieldView {
  void* base = nullptr;
  std::int64_t page_stride = 0;  // in elements
};

// One row to score. Candidates are consecutive logical pages; summary_page gives the physical page that holds the
// summary of each (the last physical page of a flow page).
struct RowArguments {
  const float* q = nullptr;                    // [group, head_dim], already multiplied by the softmax scale
  const FieldView* fields = nullptr;           // in the order of CpuFlow::fields(), offset to this row's KV head
  const std::int32_t* summary_page = nullptr;  // [candidates]; of a flow with groups all full pages from first_page on
  std::int64_t candidates = 0;
  std::int64_t first_page = 0;  // logical index of candidate 0
  std::int64_t pages = 0, tokens = 0, step = 0, layer = 0, layers = 1, kv_head = 0;
  std::int64_t left = 0;  // candidates that the budget leaves to choose
  float scale = 1.0f;
  const StateView* states = nullptr;  // in the order of CpuFlow::states()
  float* scores = nullptr;            // [candidates], out; of a set: 1 where a page is in it, else 0
  float* rest = nullptr;              // [CpuFlow::rest_floats()], out: what pages that are not chosen contribute
  float* workspace = nullptr;         // [workspace_floats(candidates)], kept from stage to stage
};

class CpuFlow {
 public:
  static std::shared_ptr<const CpuFlow> build(compiler::Plan);
  virtual ~CpuFlow() = default;

  virtual const compiler::Plan& plan() const = 0;
  virtual const ir::RowRule& rows() const = 0;  // how many pages a row attends

  // The scores are a set, 0 or 1. It is counted when it always holds as many pages as the budget leaves.
  bool chooses_set() const { return plan().program.selection >= 0; }
  bool is_counted() const {
    if (!chooses_set()) return true;
    const ir::Node& set = plan().program.node(plan().program.selection);
    return set.op->name == "top_k" && plan().program.node(set.inputs[1]).op->name == "seq_left" &&
           plan().program.node(set.inputs[0]).type.domain.kind == ir::Domain::Kind::page;
  }
  // A row's rest: logit [group] and value [group, value_dim]; 0 when the flow has none.
  std::int64_t rest_floats() const {
    return plan().program.rest_logit < 0 ? 0 : plan().geometry.group * (1 + plan().geometry.value_channels());
  }
  virtual const std::vector<FieldLayout>& fields() const = 0;
  // What is carried of a row from step to step. A flow with state runs its stages in every step, for rows without
  // candidates too.
  virtual std::span<const StateLayout> states() const { return {}; }
  virtual std::string text() const { return {}; }  // the tile program, one instruction a line

  // Pages of the groups that the flow remembers; empty for most flows.
  virtual std::vector<std::int64_t> groups() const { return {}; }
  // Summaries of one finished page of one KV head, or of a group of so many pages. k, v: for each token, its bf16
  // vector [head_dim], [value channels]. outputs: [fields()], those of other sizes are left alone. layer, kv_head: for
  // parameters.
  virtual void summarize(const BFloat16* const* k, const BFloat16* const* v, void* const* outputs, float* scratch,
                         std::int64_t pages = 1, std::int64_t layer = 0, std::int64_t kv_head = 0) const = 0;
  virtual std::int64_t scratch_floats() const = 0;  // of one worker, for each row that it runs at once; summarize: one

  virtual int page_stages() const = 0;
  virtual std::int64_t workspace_floats(std::int64_t candidates) const = 0;
  virtual void run_row(const RowArguments&, float* scratch) const = 0;
  // Stages over groups or the members of a set take the instances of that range that there are.
  // Candidates [begin, end) of rows that differ in q, KV head and memory only: what they read of a page lies side by
  // side. begin: a multiple of 16, unless what comes after is run later.
  virtual void run_page(int stage, std::span<const RowArguments> rows, std::int64_t begin, std::int64_t end,
                        float* scratch) const = 0;
  virtual void run_finish(int stage, const RowArguments&, float* scratch) const = 0;  // stages 0 .. page_stages()-2
  // Bytes of summaries that the stages of a row have read, after they ran.
  virtual std::int64_t summary_bytes(const RowArguments& row) const {
    std::int64_t page = 0;
    for (const FieldLayout& field : fields()) page += field.elements * (field.dtype == ir::DType::bf16 ? 2 : 4);
    return row.candidates * page;
  }
};

}  // namespace vortex::codegen
