#include "codegen/cpu/lower_values.h"

#include <vortex/error.h>

#include <algorithm>

#include "base/check.h"
#include "base/text.h"
#include "codegen/cpu/place.h"

namespace vortex::codegen {

using ir::Node;
using ir::OpKind;
using ir::ValueId;

namespace {

constexpr std::int64_t kMaxElements = 1 << 18;  // of one value a page or row: 128 MiB of scratch a chunk
constexpr std::int64_t kMaxTogether = 1 << 21;  // of all values: a flow is lowered in a fraction of a second
constexpr std::int64_t kMaxSpilled = 1 << 12;   // 16 KiB of a row's workspace for each candidate

}  // namespace

std::vector<std::int64_t> Values::shape(ValueId id) const {
  std::vector<std::int64_t> out;
  for (const ir::Axis& axis : node(id).type.axes) out.push_back(extent(axis));
  return out;
}

std::vector<std::int64_t> Values::dense(const std::vector<std::int64_t>& shape) {
  std::vector<std::int64_t> stride(shape.size());
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0; step *= shape[i]) stride[i] = step;
  return stride;
}

[[noreturn]] void Values::refuse(ValueId id, const std::string& what) const {
  const Node& at = node(id);
  const std::string axis = ir::axis_of(at);
  throw UserError(
      ir::print(at.location, plan_.program), "every op of a flow must have a CPU implementation",
      concat(at.op->name, axis.empty() ? "" : concat(" over \"", axis, "\""), " has no CPU implementation for ", what),
      "write it with other ops");
}

void Values::count(ValueId id) {
  lowered_ += elements(id);
  if (lowered_ > kMaxTogether)
    throw UserError(ir::print(node(id).location, plan_.program),
                    concat("the values of a flow have at most ", kMaxTogether, " elements a page together"),
                    concat(ir::print(node(id).type), " brings them to ", lowered_), "reduce axes earlier");
}

int Values::domain_of(const ir::Domain& domain) {
  if (domain.kind == ir::Domain::Kind::in_set) return sets_.at(domain.set);
  if (domain.pages == 1) return 0;
  const auto [found, fresh] = groups_.try_emplace(domain.pages, static_cast<int>(out_.domains.size()));
  if (fresh) {
    out_.domains.push_back({domain.pages, -1, out_.spill_elements, -1});
    ++out_.spill_elements;
  }
  return found->second;
}

Value Values::place_spilled(ValueId id) {
  Value value;
  value.space = Space::spill;
  value.offset = out_.spill_elements;
  value.stride = dense(shape(id));
  value.lanes = true;
  out_.spill_elements += elements(id);
  if (out_.spill_elements > kMaxSpilled)
    throw UserError(ir::print(node(id).location, plan_.program),
                    concat("what is kept of a page from stage to stage has at most ", kMaxSpilled, " elements"),
                    concat(ir::print(node(id).type), " brings it to ", out_.spill_elements),
                    "reduce an axis before the op over \"page\"");
  return value;
}

void Values::place_buffers(Instructions& code) {
  std::int64_t& most = summarizing_ ? page_elements_ : chunk_elements_;
  most = std::max(most, place_scratch(code, buffers_));
  if (most > kMaxElements)
    throw UserError(concat("flow ", plan_.program.name),
                    concat("the values that a stage needs at one time have at most ", kMaxElements, " elements a page"),
                    concat(most), "reduce axes earlier");
}

Value Values::place(ValueId id) {
  if (elements(id) > kMaxElements) {
    throw UserError(ir::print(node(id).location, plan_.program),
                    concat("a value has at most ", kMaxElements, " elements a page"),
                    concat(ir::print(node(id).type), " has ", elements(id)), "reduce an axis first");
  }
  Value value;
  value.stride = dense(shape(id));
  if (summarizing_ || !row_mode_) {
    value.space = Space::scratch;
    value.buffer = static_cast<int>(buffers_.size());
    value.lanes = !summarizing_;
    buffers_.push_back(elements(id));
  } else {
    value.space = Space::rows;
    value.offset = take_rows(elements(id));
  }
  return value;
}

std::int64_t Values::take_rows(std::int64_t floats) {
  const std::int64_t offset = out_.row_floats;
  out_.row_floats += (floats + 15) / 16 * 16;
  return offset;
}

Value& Values::value_of(ValueId id) {
  if (auto found = local_.find(id); found != local_.end()) return found->second;
  if (auto found = kept_.find(id); found != kept_.end()) return found->second;
  VORTEX_CHECK(node(id).op->kind == OpKind::source || is_read_again(id), "value %", id, " is not at hand");
  emit(id);
  return local_.at(id);
}

Value& Values::memory_of(ValueId id) {
  Value& value = value_of(id);
  if (value.space != Space::none) return value;
  VORTEX_CHECK(value.field >= 0, "value %", id, " has neither place nor field");
  auto gathered = gathered_.find(value.field);
  if (gathered == gathered_.end()) {
    Instruction& gather = add(Opcode::gather, id);
    gather.field = value.field;
    gather.out = {Space::scratch, 0, {}, 1, static_cast<int>(buffers_.size())};
    buffers_.push_back(out_.fields[static_cast<std::size_t>(value.field)].elements);
    gathered = gathered_.emplace(value.field, gather.out.buffer).first;
  }
  value.space = Space::scratch;
  value.buffer = gathered->second;
  value.offset = value.field_offset;
  value.stride = value.field_stride;
  value.lanes = true;
  return value;
}

std::vector<std::int64_t> Values::strides_over(ValueId id, const std::vector<std::int64_t>& strides,
                                               const std::vector<ir::Axis>& axes) const {
  std::vector<std::int64_t> out;
  for (const ir::Axis& axis : axes) {
    std::int64_t stride = 0;
    for (std::size_t i = 0; i < node(id).type.axes.size(); ++i)
      if (node(id).type.axes[i].name == axis.name) stride = strides[i];
    out.push_back(stride);
  }
  return out;
}

Operand Values::operand_of(const Value& value) {
  Operand operand;
  operand.space = value.space;
  operand.offset = value.offset;
  operand.buffer = value.buffer;
  operand.lane_stride = value.lanes ? 1 : 0;
  return operand;
}

Instruction& Values::add(Opcode code, ValueId value) {
  code_->push_back({});
  Instruction& instruction = code_->back();
  instruction.code = code;
  instruction.value = value;
  return instruction;
}

void Values::set_nest(Instruction& instruction, const std::vector<ir::Axis>& axes,
                      const std::vector<Operand*>& operands, const std::vector<std::vector<std::int64_t>>& strides) {
  std::vector<std::int64_t> extents;
  std::vector<std::vector<std::int64_t>> merged(operands.size());
  for (std::size_t axis = 0; axis < axes.size(); ++axis) {
    const std::int64_t size = extent(axes[axis]);
    if (size == 1) continue;
    bool joins = !extents.empty();
    for (std::size_t o = 0; joins && o < operands.size(); ++o) joins = merged[o].back() == strides[o][axis] * size;
    if (joins) {
      extents.back() *= size;
      for (std::size_t o = 0; o < operands.size(); ++o) merged[o].back() = strides[o][axis];
    } else {
      extents.push_back(size);
      for (std::size_t o = 0; o < operands.size(); ++o) merged[o].push_back(strides[o][axis]);
    }
  }
  tile::Nest& nest = instruction.nest;
  if (row_mode_ && !extents.empty() && merged.back().back() == 1) {
    nest.lanes = extents.back();
    extents.pop_back();
    for (std::size_t o = 0; o < operands.size(); ++o) {
      operands[o]->lane_stride = merged[o].back();
      merged[o].pop_back();
    }
  }
  nest.rank = static_cast<int>(extents.size());
  for (std::size_t loop = 0; loop < extents.size(); ++loop) {
    nest.extent[loop] = extents[loop];
    for (std::size_t o = 0; o < operands.size(); ++o) operands[o]->stride[loop] = merged[o][loop];
  }
}

std::int64_t Values::stride_of(ValueId id, const Value& value, const std::string& axis) const {
  for (std::size_t i = 0; i < node(id).type.axes.size(); ++i)
    if (node(id).type.axes[i].name == axis) return value.stride[i];
  VORTEX_CHECK(false, "no axis ", axis);
}

std::vector<std::int32_t> Values::table_of(ValueId id, const std::vector<std::int64_t>& strides) const {
  return offsets(shape(id), strides);
}

std::vector<std::int32_t> Values::offsets(const std::vector<std::int64_t>& shape,
                                          const std::vector<std::int64_t>& strides) {
  std::vector<std::int32_t> out{0};
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    std::vector<std::int32_t> next;
    next.reserve(out.size() * static_cast<std::size_t>(shape[axis]));
    for (std::int32_t base : out)
      for (std::int64_t i = 0; i < shape[axis]; ++i)
        next.push_back(base + static_cast<std::int32_t>(i * strides[axis]));
    out = std::move(next);
  }
  return out;
}

}  // namespace vortex::codegen
