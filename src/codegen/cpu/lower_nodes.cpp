#include "codegen/cpu/lower_nodes.h"

#include <optional>
#include <utility>

#include "base/check.h"
#include "base/text.h"

namespace vortex::codegen {

using ir::Node;
using ir::OpKind;
using ir::ValueId;

namespace {

// One loop of equal steps instead of several, or nothing when they do not join.
struct Loop {
  std::int64_t count = 1, in = 0, out = 0;
};

std::optional<Loop> one_loop(const std::vector<Loop>& loops) {
  Loop all;
  bool first = true;
  for (const Loop& loop : loops) {
    if (loop.count == 1) continue;
    if (!first && (all.in != loop.in * loop.count || all.out != loop.out * loop.count)) return std::nullopt;
    all = {all.count * loop.count, loop.in, loop.out};
    first = false;
  }
  return all;
}

}  // namespace

void Nodes::emit(ValueId id) {
  const Node& at = node(id);
  count(id);
  switch (at.op->kind) {
    case OpKind::source:
      return emit_source(id);
    case OpKind::elementwise:
      return emit_map(id);
    case OpKind::reduction:
      return emit_reduction(id);
    case OpKind::along:
      return emit_along(id);
    case OpKind::contraction:
      return emit_contraction(id);
    case OpKind::shape:
      return emit_shape(id);
    case OpKind::domain:
      return emit_domain(id);
    case OpKind::list:
    case OpKind::selection:  // in a finish, by the lowering of stages
      refuse(id, ir::print(at.type));
  }
}

void Nodes::emit_source(ValueId id) {
  const Node& at = node(id);
  const std::string& name = at.op->name;
  if (name == "summary") {
    Value value;
    const std::string& summary = ir::text_of(at.attributes, "name");
    for (std::size_t f = 0; f < out_.fields.size(); ++f)
      if (out_.fields[f].name == summary) value.field = static_cast<int>(f);
    value.field_stride = dense(shape(id));
    local_[id] = value;
    return;
  }
  Value value = place(id);
  if (ir::is_parameter(at)) {
    Instruction& load = add(Opcode::load_param, id);
    load.field = parameter_of(ir::text_of(at.attributes, "name"));
    load.extent = elements(id);
    load.out = operand_of(value);
    value.stride = parameter_strides(id);
  } else if (name == "q") {
    add(Opcode::load_q, id).out = operand_of(value);
  } else if (name == "page_index" || name == "group_index") {
    add(Opcode::page_index, id).out = operand_of(value);
  } else if (ir::is_state(at)) {
    Instruction& load = add(Opcode::load_state, id);
    load.field = state_of(ir::text_of(at.attributes, "name"));
    load.extent = elements(id);
    load.out = operand_of(value);
  } else if (at.op->phase == ir::Phase::summarize) {  // keys or values, of a page or a group
    Instruction& load = add(Opcode::load_token, id);
    load.field = name.ends_with("_k") ? 0 : 1;
    load.out = operand_of(value);
  } else {
    static const std::map<std::string, Scalar> scalars = {
        {"constant", Scalar::constant}, {"seq_pages", Scalar::pages},   {"seq_tokens", Scalar::tokens},
        {"seq_step", Scalar::step},     {"layer_index", Scalar::layer}, {"layer_count", Scalar::layers},
        {"layer_scale", Scalar::scale}, {"seq_left", Scalar::left}};
    auto found = scalars.find(name);
    if (found == scalars.end()) refuse(id, ir::print(at.type));
    Instruction& load = add(Opcode::scalar, id);
    load.op = static_cast<std::uint8_t>(found->second);
    if (found->second == Scalar::constant)
      load.parameters[0] = static_cast<float>(ir::number_of(at.attributes, "value"));
    load.out = operand_of(value);
  }
  local_[id] = value;
}

int Nodes::state_of(const std::string& name) const {
  for (std::size_t s = 0; s < out_.states.size(); ++s)
    if (out_.states[s].name == name) return static_cast<int>(s);
  VORTEX_CHECK(false, "no state ", name);
}

// "dim" outermost, the others as they stand.
std::vector<std::int64_t> Nodes::parameter_strides(ValueId id) const {
  std::vector<std::int64_t> stride = shape(id);
  const std::vector<ir::Axis>& axes = node(id).type.axes;
  std::int64_t step = 1;
  for (std::size_t i = axes.size(); i-- > 0;) {
    if (axes[i].name == "dim") continue;
    step *= std::exchange(stride[i], step);
  }
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i].name == "dim") stride[i] = step;
  return stride;
}

int Nodes::parameter_of(const std::string& name) const {
  for (std::size_t p = 0; p < out_.parameters.size(); ++p)
    if (out_.parameters[p].name == name) return static_cast<int>(p);
  VORTEX_CHECK(false, "no parameter ", name);
}

void Nodes::store_states(ValueId id) {
  for (const ir::State& state : plan_.program.states) {
    if (state.value != id) continue;
    const ir::Type& type = ir::reader_of(plan_.program, state.name)->type;
    const Value value = memory_of(id);
    std::vector<std::int64_t> sizes;
    for (const ir::Axis& axis : type.axes) sizes.push_back(extent(axis));
    Instruction& store = add(Opcode::store_state, id);
    store.field = state_of(state.name);
    store.a = operand_of(value);
    store.table = offsets(sizes, strides_over(id, value.stride, type.axes));
  }
}

void Nodes::emit_domain(ValueId id) {
  const Node& at = node(id);
  if (is_read_again(id)) {  // through the list that the stage runs over
    const ValueId source = compiler::source_of(plan_.program, id);
    emit_source(source);
    local_[id] = local_.at(source);
    local_.erase(source);
    return;
  }
  const ValueId input = at.inputs[0];
  const bool restricts = at.op->name == "confine";
  VORTEX_CHECK(kept_.contains(input), at.op->name, " of %", input, ", which is not kept");
  const Value from = kept_.at(input), value = place(id);
  const bool shifts = at.op->name == "shift";
  Instruction& bring = add(restricts ? Opcode::restrict : shifts ? Opcode::shift : Opcode::spread, id);
  if (shifts) bring.by = ir::integer_of(at.attributes, "by");
  bring.a = operand_of(from);
  bring.table = table_of(input, from.stride);
  bring.out = operand_of(value);
  bring.domain = domain_;
  bring.from = domain_of(node(input).type.domain);
  if (!restricts) bring.parameters[0] = static_cast<float>(ir::number_of(at.attributes, "other"));
  local_[id] = value;
}

void Nodes::emit_map(ValueId id) {
  const Node& at = node(id);
  const std::optional<tile::Map> op = tile::find_map(at.op->tile);
  if (!op) refuse(id, ir::print(at.type));
  std::vector<std::vector<std::int64_t>> strides;
  for (ValueId input : at.inputs) strides.push_back(strides_over(input, memory_of(input).stride, at.type.axes));
  Value value = place(id);
  strides.push_back(value.stride);
  Instruction& map = add(Opcode::map, id);
  map.op = static_cast<std::uint8_t>(*op);
  std::vector<Operand*> operands{&map.a, &map.b, &map.c};
  operands.resize(at.inputs.size());
  for (std::size_t i = 0; i < operands.size(); ++i) *operands[i] = operand_of(memory_of(at.inputs[i]));
  map.out = operand_of(value);
  operands.push_back(&map.out);
  set_nest(map, at.type.axes, operands, strides);
  std::size_t parameter = 0;
  for (const ir::AttributeDef& attribute : at.op->attributes)
    if (parameter < 2) map.parameters[parameter++] = static_cast<float>(ir::number_of(at.attributes, attribute.name));
  local_[id] = value;
}

void Nodes::emit_reduction(ValueId id) {
  const Node& at = node(id);
  const std::string axis = ir::axis_of(at);
  const std::optional<tile::Reduction> op = tile::find_reduction(at.op->tile);
  if (!op || axis == "page") refuse(id, ir::print(at.type));
  const ValueId input = at.inputs[0];
  const Value from = memory_of(input);
  Value value = place(id);
  Instruction& reduce = add(Opcode::reduce, id);
  reduce.op = static_cast<std::uint8_t>(*op);
  reduce.a = operand_of(from);
  reduce.out = operand_of(value);
  reduce.extent = extent(*ir::find_axis(node(input).type, axis));
  reduce.a_axis = stride_of(input, from, axis);
  set_nest(reduce, at.type.axes, {&reduce.a, &reduce.out},
           {strides_over(input, from.stride, at.type.axes), value.stride});
  local_[id] = value;
}

void Nodes::emit_along(ValueId id) {
  const Node& at = node(id);
  const std::string axis = ir::axis_of(at);
  const std::optional<tile::Along> op = tile::find_along(at.op->tile);
  if (!op || axis == "page") refuse(id, ir::print(at.type));
  const ValueId input = at.inputs[0];
  const Value from = memory_of(input);
  Value value = place(id);
  Instruction& along = add(Opcode::along, id);
  along.op = static_cast<std::uint8_t>(*op);
  along.a = operand_of(from);
  along.out = operand_of(value);
  along.extent = extent(*ir::find_axis(at.type, axis));
  along.a_axis = stride_of(input, from, axis);
  along.out_axis = stride_of(id, value, axis);
  std::vector<ir::Axis> axes;
  for (const ir::Axis& other : at.type.axes)
    if (other.name != axis) axes.push_back(other);
  set_nest(along, axes, {&along.a, &along.out},
           {strides_over(input, from.stride, axes), strides_over(id, value.stride, axes)});
  local_[id] = value;
}

void Nodes::emit_contraction(ValueId id) {
  const Node& at = node(id);
  const std::string over = ir::axis_of(at);
  if (!summarizing_ && is_page(id)) {
    if (emit_stream(id, at.inputs[0], at.inputs[1], over)) return;
    if (emit_stream(id, at.inputs[1], at.inputs[0], over)) return;
  }
  const Value a = memory_of(at.inputs[0]), b = memory_of(at.inputs[1]);
  Value value = place(id);
  Instruction& contract = add(Opcode::contract, id);
  contract.a = operand_of(a);
  contract.b = operand_of(b);
  contract.out = operand_of(value);
  contract.extent = extent(*ir::find_axis(node(at.inputs[0]).type, over));
  contract.a_axis = stride_of(at.inputs[0], a, over);
  contract.b_axis = stride_of(at.inputs[1], b, over);
  set_nest(contract, at.type.axes, {&contract.a, &contract.b, &contract.out},
           {strides_over(at.inputs[0], a.stride, at.type.axes), strides_over(at.inputs[1], b.stride, at.type.axes),
            value.stride});
  local_[id] = value;
}

bool Nodes::emit_stream(ValueId id, ValueId row, ValueId page, const std::string& over) {
  const Value field = value_of(page);
  if (is_page(row) || field.field < 0) return false;
  const std::vector<ir::Axis>&row_axes = node(row).type.axes, &page_axes = node(page).type.axes;
  const std::vector<ir::Axis>& out_axes = node(id).type.axes;
  const std::vector<std::int64_t> out_stride = dense(shape(id));
  auto loop_over = [&](const ir::Axis& axis, std::int64_t in) {
    Loop loop{extent(axis), in, 0};
    for (std::size_t i = 0; i < out_axes.size(); ++i)
      if (out_axes[i].name == axis.name) loop.out = out_stride[i];
    return loop;
  };
  std::vector<Loop> heads, vectors;
  std::int64_t row_step = 1;
  for (std::size_t i = row_axes.size(); i-- > 0;) {
    if (row_axes[i].name == over) continue;
    if (ir::find_axis(node(page).type, row_axes[i].name) != nullptr) return false;
    heads.insert(heads.begin(), loop_over(row_axes[i], row_step));
    row_step *= extent(row_axes[i]);
  }
  std::int64_t dim = 0;
  for (std::size_t i = 0; i < page_axes.size(); ++i) {
    if (page_axes[i].name != over) {
      vectors.push_back(loop_over(page_axes[i], field.field_stride[i]));
      continue;
    }
    dim = extent(page_axes[i]);
    if (dim > 1 && field.field_stride[i] != 1) return false;
  }
  const std::optional<Loop> head = one_loop(heads), vector = one_loop(vectors);
  if (!head || !vector) return false;
  Value value = place(id);
  Instruction stream;
  stream.code = Opcode::stream;
  stream.value = id;
  stream.a = packed(row, over, head->count, dim, field.field);
  stream.out = operand_of(value);
  stream.field = field.field;
  stream.field_offset = field.field_offset;
  stream.streamed = {head->count, vector->count, dim, vector->in, head->out, vector->out};
  code_->push_back(stream);
  local_[id] = value;
  return true;
}

Operand Nodes::packed(ValueId row, const std::string& over, std::int64_t heads, std::int64_t dim, int field) {
  auto key = std::make_pair(row, over);
  if (auto found = packed_.find(key); found != packed_.end()) return found->second;
  const Value& value = kept_.at(row);
  // [heads, dim] in row-major order: the other axes as they stand, then `over`.
  std::vector<std::int64_t> extents, strides;
  for (std::size_t i = 0; i < node(row).type.axes.size(); ++i) {
    if (node(row).type.axes[i].name == over) continue;
    extents.push_back(extent(node(row).type.axes[i]));
    strides.push_back(value.stride[i]);
  }
  extents.push_back(dim);
  strides.push_back(stride_of(row, value, over));
  Instructions& made = *made_in_.at(row);
  Instruction dense_copy;
  dense_copy.code = Opcode::copy;
  dense_copy.value = row;
  dense_copy.a = operand_of(value);
  dense_copy.table = offsets(extents, strides);
  dense_copy.out = {Space::rows, take_rows(heads * dim), {}, 0, -1};
  bool in_order = true;
  for (std::size_t i = 0; i < dense_copy.table.size(); ++i)
    in_order = in_order && dense_copy.table[i] == static_cast<std::int32_t>(i);
  Instruction pack;
  pack.code = Opcode::pack;
  pack.value = row;
  pack.a = in_order ? operand_of(value) : dense_copy.out;
  pack.field = field;  // all fields of a flow have one type
  pack.streamed.heads = heads;
  pack.streamed.dim = dim;
  pack.out = {Space::rows, take_rows(tile::packed_floats(heads, dim)), {}, 0, -1};
  if (!in_order) made.push_back(dense_copy);
  made.push_back(pack);
  packed_[key] = pack.out;
  return pack.out;
}

void Nodes::emit_shape(ValueId id) {
  const Node& at = node(id);
  const ValueId input = at.inputs[0];
  const std::vector<std::int64_t> out_shape = shape(id), in_shape = shape(input);
  const Value from = value_of(input);
  std::vector<std::vector<std::int64_t>> moved;  // input index of each output element
  std::vector<std::int64_t> out_index(out_shape.size(), 0), in_index(in_shape.size(), 0);
  const ir::MoveContext context{node(input).type, at.type, in_shape, out_shape, at.attributes};
  for (std::int64_t count = elements(id); count > 0; --count) {
    at.op->move(context, out_index, in_index);
    moved.push_back(in_index);
    for (std::size_t axis = out_shape.size(); axis-- > 0;) {
      if (++out_index[axis] < out_shape[axis]) break;
      out_index[axis] = 0;
    }
  }
  auto table = [&](const std::vector<std::int64_t>& strides) {
    std::vector<std::int32_t> offset;
    for (const std::vector<std::int64_t>& index : moved) {
      std::int64_t at_element = 0;
      for (std::size_t i = 0; i < index.size(); ++i) at_element += index[i] * strides[i];
      offset.push_back(static_cast<std::int32_t>(at_element));
    }
    return offset;
  };
  // Steps along each output axis, when the table is made of such steps.
  auto even_steps = [&](const std::vector<std::int32_t>& offset) -> std::optional<std::vector<std::int64_t>> {
    std::vector<std::int64_t> steps, place_value = dense(out_shape);
    for (std::size_t axis = 0; axis < out_shape.size(); ++axis)
      steps.push_back(out_shape[axis] > 1 ? offset[static_cast<std::size_t>(place_value[axis])] - offset[0] : 0);
    std::vector<std::int32_t> even = offsets(out_shape, steps);
    for (std::size_t i = 0; i < offset.size(); ++i)
      if (even[i] + offset[0] != offset[i]) return std::nullopt;
    return steps;
  };
  Value value;
  if (from.field >= 0) {
    const std::vector<std::int32_t> offset = table(from.field_stride);
    if (auto steps = even_steps(offset)) {
      value.field = from.field;
      value.field_offset = from.field_offset + offset[0];
      value.field_stride = *steps;
      local_[id] = value;
      return;
    }
  }
  const Value memory = memory_of(input);
  const std::vector<std::int32_t> offset = table(memory.stride);
  if (auto steps = even_steps(offset)) {
    value = memory;
    value.field = -1;
    value.offset += offset[0];
    value.stride = *steps;
  } else {
    value = place(id);
    Instruction& copy = add(Opcode::copy, id);
    copy.a = operand_of(memory);
    copy.table = offset;
    copy.out = operand_of(value);
  }
  local_[id] = value;
}

}  // namespace vortex::codegen
