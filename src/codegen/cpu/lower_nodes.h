// One instruction for each node of a plan, or none where a view will do.
#pragma once

#include <map>

#include "codegen/cpu/lower_values.h"

namespace vortex::codegen {

class Nodes : protected Values {
 protected:
  using Values::Values;

  void emit(ValueId id) final;
  void emit_source(ValueId id);
  int state_of(const std::string& name) const;
  int parameter_of(const std::string& name) const;
  std::vector<std::int64_t> parameter_strides(ir::ValueId) const;
  void store_states(ValueId id);  // those that are set to this value, which is at hand
  void emit_map(ValueId id);
  void emit_reduction(ValueId id);
  void emit_along(ValueId id);
  void emit_domain(ValueId id);
  void emit_contraction(ValueId id);
  // A row value against a summary still in its field, contracted over elements that lie side by side: streamed from the
  // arena. False when the operands are not like that.
  bool emit_stream(ValueId id, ValueId row, ValueId page, const std::string& over);
  // The row value in packed order, made at the end of the stage that makes the value.
  Operand packed(ValueId row, const std::string& over, std::int64_t heads, std::int64_t dim, int field);
  // Shape ops move nothing when the elements still stand at even steps; else they copy by a table.
  void emit_shape(ValueId id);

  std::map<std::pair<ValueId, std::string>, Operand> packed_;  // row value and the axis it is contracted over
  std::map<ValueId, Instructions*> made_in_;                   // where packing is appended for a row value
};

}  // namespace vortex::codegen
