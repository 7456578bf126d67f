// How a plan is cut for CUDA, before anything is printed: its stages, where the values lie that cross them, and which
// loops are products for the matrix unit.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "codegen/cpu/flow.h"
#include "codegen/cuda/print.h"
#include "compiler/plan.h"

namespace vortex::codegen {

inline constexpr int kWarp = 32;
inline constexpr int kTilePages = 16;             // candidates of a product of the matrix unit
inline constexpr std::int64_t kMostColumns = 16;  // heads of a product

// Whether a value is one of candidates, or of groups of them.
bool is_page(const ir::Type&);
// A reduction, a contraction, an `along` op or a choice of pages.
bool is_loop(const ir::Node&);

class CudaLayout {
 public:
  // Where a value of the workspace lies: after the floats of the row, or among those of a candidate.
  struct Slot {
    bool of_page = false;
    std::int64_t before = 0;  // floats before it of the same kind
  };
  // A product of all candidates with one row's value: `pages` is a summary in bf16 whose last axis is summed over,
  // `row` a value of the row with that axis and at most one other.
  struct Product {
    ir::ValueId pages, row;
  };

  explicit CudaLayout(const compiler::Plan&);

  const compiler::Plan& plan() const { return plan_; }
  // What a row's pages are attended by: the flow's set, or its score.
  ir::ValueId ranked() const { return plan_.program.selection >= 0 ? plan_.program.selection : plan_.program.score; }
  // The plan's, but those at the end that a block of a row can do by itself are one.
  const std::vector<compiler::Stage>& stages() const { return stages_; }
  // Whether a stage is that one, the function `finish`.
  bool is_last(std::size_t stage) const { return stage == last_; }
  const std::vector<FieldLayout>& fields() const { return fields_; }
  std::size_t field_of(const std::string& name) const;
  const std::vector<CudaParameter>& parameters() const { return parameters_; }
  std::size_t parameter_of(const std::string& name) const;
  const std::vector<StateLayout>& states() const { return states_; }
  std::size_t state_of(const std::string& name) const;  // states().size(): none that is ever set

  // Floats of the workspace: of a row, and of each candidate that it can have.
  std::int64_t row_floats() const { return row_floats_; }
  std::int64_t page_floats() const { return page_floats_; }
  // nullptr: the value crosses no stage.
  const Slot* slot_of(ir::ValueId) const;

  // A value whose elements lie in memory before another reads them: a loop, or a shift of what was computed, since
  // shifts of shifts would be made over and over.
  bool is_stored(const ir::Node&) const;
  // A loop over a warp's width of elements or more, other than over the pages.
  bool is_long(const ir::Node&) const;
  std::optional<Product> product_of(ir::ValueId) const;

 private:
  void cut_stages();
  void join_stages(std::size_t from);  // those from this one on are the function `finish`
  void place(ir::ValueId);
  bool is_listed(ir::ValueId) const;  // a set whose pages other values run over

  const compiler::Plan& plan_;
  std::vector<compiler::Stage> stages_;
  std::size_t last_ = static_cast<std::size_t>(-1);
  std::vector<FieldLayout> fields_;
  std::vector<CudaParameter> parameters_;
  std::vector<StateLayout> states_;
  std::map<ir::ValueId, Slot> slots_;
  std::int64_t row_floats_ = 0, page_floats_ = 0;
};

}  // namespace vortex::codegen
