// Where values live while a plan is lowered: places in scratch, rows and spill, loops over named axes. The base of
// Nodes (an instruction for each node) and of the lowering of stages.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "codegen/cpu/program.h"
#include "compiler/passes/schedule.h"
#include "ir/op.h"

namespace vortex::codegen {

// Where a value is. A summary is in its field until something needs it as lanes.
struct Value {
  Space space = Space::none;
  int buffer = -1;
  std::int64_t offset = 0;
  std::vector<std::int64_t> stride;  // one an axis, in elements
  bool lanes = false;                // one lane a candidate
  int field = -1;
  std::int64_t field_offset = 0;
  std::vector<std::int64_t> field_stride;
};

class Values {
 protected:
  using ValueId = ir::ValueId;

  explicit Values(const compiler::Plan& plan) : plan_(plan) {}
  ~Values() = default;

  virtual void emit(ValueId id) = 0;  // the instructions of a node in the current stage

  const ir::Node& node(ValueId id) const { return plan_.program.node(id); }
  bool is_page(ValueId id) const { return node(id).type.domain.has_instances(); }
  bool is_read_again(ValueId id) const { return compiler::is_read_again(plan_.program, id); }
  int domain_of(const ir::Domain&);  // its number; a set's comes to be with its list
  std::int64_t extent(const ir::Axis& axis) const { return *ir::bind(axis.extent, plan_.geometry); }
  std::int64_t elements(ValueId id) const { return compiler::elements_of(node(id).type, plan_.geometry); }

  std::vector<std::int64_t> shape(ValueId id) const;
  static std::vector<std::int64_t> dense(const std::vector<std::int64_t>& shape);  // row-major strides
  // UserError: the op has no CPU implementation for `what`.
  [[noreturn]] void refuse(ValueId id, const std::string& what) const;

  // UserError when the values emitted so far are too many for any sensible flow.
  void count(ValueId id);
  // A new dense value of the current mode.
  Value place(ValueId id);
  Value place_spilled(ValueId id);              // the same in the spill space
  void place_buffers(Instructions& code);       // places of the current stage's scratch buffers
  std::int64_t take_rows(std::int64_t floats);  // the offset of so many floats in `rows`
  // The value of a node here: made in this stage, kept from an earlier one, or a page source made on demand.
  Value& value_of(ValueId id);
  // The same, with a place in memory: a summary is gathered into lanes.
  Value& memory_of(ValueId id);

  // Strides of a value along the axes of `type`, 0 where it lacks one.
  std::vector<std::int64_t> strides_over(ValueId id, const std::vector<std::int64_t>& strides,
                                         const std::vector<ir::Axis>& axes) const;
  static Operand operand_of(const Value& value);
  Instruction& add(Opcode code, ValueId value);  // valid until the next one

  // Loops over `axes` for all operands, the output last; loops that all of them take as one become one. Without lanes
  // of candidates the innermost loop becomes the lanes, where the output is contiguous.
  void set_nest(Instruction& instruction, const std::vector<ir::Axis>& axes, const std::vector<Operand*>& operands,
                const std::vector<std::vector<std::int64_t>>& strides);

  std::int64_t stride_of(ValueId id, const Value& value, const std::string& axis) const;
  // Element offsets of a value in row-major order of its axes.
  std::vector<std::int32_t> table_of(ValueId id, const std::vector<std::int64_t>& strides) const;
  static std::vector<std::int32_t> offsets(const std::vector<std::int64_t>& shape,
                                           const std::vector<std::int64_t>& strides);

  const compiler::Plan& plan_;
  TileProgram out_;
  bool summarizing_ = false, row_mode_ = true;
  int domain_ = 0;                                       // of the lanes being lowered
  std::map<std::int64_t, int> groups_, sets_;            // pages of a group, list of a set → domain
  Instructions* code_ = nullptr;                         // of the stage being lowered
  std::vector<std::int64_t> buffers_;                    // elements of its scratch buffers
  std::map<ValueId, Value> local_, kept_;                // of the current stage; of all stages so far
  std::map<int, int> gathered_;                          // field → buffer
  std::int64_t lowered_ = 0;                             // elements of all values emitted
  std::int64_t page_elements_ = 0, chunk_elements_ = 0;  // of scratch, in summarize and in the other stages
};

}  // namespace vortex::codegen
