// Plan → tile programs: where each value lives, and one instruction for each node.
#include <vortex/error.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>

#include "base/check.h"
#include "codegen/cpu/place.h"
#include "codegen/cpu/program.h"
#include "compiler/passes/schedule.h"
#include "ir/op.h"

namespace vortex::codegen {

namespace {

using compiler::Plan;
using compiler::Stage;
using compiler::StageKind;
using ir::Node;
using ir::OpKind;
using ir::ValueId;

constexpr std::int64_t kMaxElements = 1 << 18;  // of one value a page or row: 128 MiB of scratch a chunk

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

class Lowering {
 public:
  explicit Lowering(const Plan& plan) : plan_(plan) {
    for (const ir::Summary& summary : plan.program.summaries)
      out_.fields.push_back({summary.name, elements(summary.value), plan.program.config.summary_dtype});
  }

  TileProgram run() {
    for (const Stage& stage : plan_.stages) {
      switch (stage.kind) {
        case StageKind::summarize:
          lower_summarize(stage);
          break;
        case StageKind::row:
          lower_row(stage);
          break;
        case StageKind::page:
          lower_page(stage, &stage == &plan_.stages.back());
          break;
        case StageKind::finish:
          lower_finish(stage);
          break;
      }
    }
    for (std::unique_ptr<std::vector<Sweep>>& sweeps : finish_) out_.finish.push_back(std::move(*sweeps));
    out_.row_floats += tile::kPadding;
    while (out_.chunk > kLeastChunk && chunk_elements_ * out_.chunk > kScratchFloats) out_.chunk /= 2;
    out_.scratch_floats = std::max(page_elements_, chunk_elements_ * out_.chunk) + tile::kPadding;
    return std::move(out_);
  }

 private:
  const Node& node(ValueId id) const { return plan_.program.node(id); }
  bool is_page(ValueId id) const { return node(id).type.domain.kind == ir::Domain::Kind::page; }
  std::int64_t extent(const ir::Axis& axis) const { return *ir::bind(axis.extent, plan_.geometry); }
  std::int64_t elements(ValueId id) const { return compiler::elements_of(node(id).type, plan_.geometry); }

  std::vector<std::int64_t> shape(ValueId id) const {
    std::vector<std::int64_t> out;
    for (const ir::Axis& axis : node(id).type.axes) out.push_back(extent(axis));
    return out;
  }

  static std::vector<std::int64_t> dense(const std::vector<std::int64_t>& shape) {
    std::vector<std::int64_t> stride(shape.size());
    std::int64_t step = 1;
    for (std::size_t i = shape.size(); i-- > 0; step *= shape[i]) stride[i] = step;
    return stride;
  }

  [[noreturn]] void refuse(ValueId id, const std::string& what) const {
    const Node& at = node(id);
    const std::string axis = ir::axis_of(at);
    throw UserError(ir::print(at.location, plan_.program), "every op of a flow must have a CPU implementation",
                    concat(at.op->name, axis.empty() ? "" : concat(" over \"", axis, "\""),
                           " has no CPU implementation for ", what),
                    "write it with other ops");
  }

  // ---- Places ----

  // A new dense value of the current mode.
  Value place(ValueId id) {
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

  std::int64_t take_rows(std::int64_t floats) {
    const std::int64_t offset = out_.row_floats;
    out_.row_floats += (floats + 15) / 16 * 16;
    return offset;
  }

  // The value of a node here: made in this stage, kept from an earlier one, or a page source made on demand.
  Value& value_of(ValueId id) {
    if (auto found = local_.find(id); found != local_.end()) return found->second;
    if (auto found = kept_.find(id); found != kept_.end()) return found->second;
    VORTEX_CHECK(node(id).op->kind == OpKind::source, "value %", id, " is not at hand");
    emit(id);
    return local_.at(id);
  }

  // The same, with a place in memory: a summary is gathered into lanes.
  Value& memory_of(ValueId id) {
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

  // Strides of a value along the axes of `type`, 0 where it lacks one.
  std::vector<std::int64_t> strides_over(ValueId id, const std::vector<std::int64_t>& strides,
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

  static Operand operand_of(const Value& value) {
    Operand operand;
    operand.space = value.space;
    operand.offset = value.offset;
    operand.buffer = value.buffer;
    operand.lane_stride = value.lanes ? 1 : 0;
    return operand;
  }

  // ---- Instructions ----

  Instruction& add(Opcode code, ValueId value) {
    code_->push_back({});
    Instruction& instruction = code_->back();
    instruction.code = code;
    instruction.value = value;
    return instruction;
  }

  // Loops over `axes` for all operands, the output last; loops that all of them take as one become one. Without lanes
  // of candidates the innermost loop becomes the lanes, where the output is contiguous.
  void set_nest(Instruction& instruction, const std::vector<ir::Axis>& axes, const std::vector<Operand*>& operands,
                const std::vector<std::vector<std::int64_t>>& strides) {
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

  // Element offsets of a value in row-major order of its axes.
  std::vector<std::int32_t> table_of(ValueId id, const std::vector<std::int64_t>& strides) const {
    return offsets(shape(id), strides);
  }

  static std::vector<std::int32_t> offsets(const std::vector<std::int64_t>& shape,
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

  void emit(ValueId id) {
    const Node& at = node(id);
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
    }
  }

  void emit_source(ValueId id) {
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
    if (name == "q") {
      add(Opcode::load_q, id).out = operand_of(value);
    } else if (name == "page_index") {
      add(Opcode::page_index, id).out = operand_of(value);
    } else if (name == "page_k" || name == "page_v") {
      Instruction& load = add(Opcode::load_token, id);
      load.field = name == "page_k" ? 0 : 1;
      load.out = operand_of(value);
    } else {
      static const std::map<std::string, Scalar> scalars = {
          {"constant", Scalar::constant}, {"seq_pages", Scalar::pages},   {"seq_tokens", Scalar::tokens},
          {"seq_step", Scalar::step},     {"layer_index", Scalar::layer}, {"layer_count", Scalar::layers},
          {"layer_scale", Scalar::scale}};
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

  void emit_map(ValueId id) {
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

  std::int64_t stride_of(ValueId id, const Value& value, const std::string& axis) const {
    for (std::size_t i = 0; i < node(id).type.axes.size(); ++i)
      if (node(id).type.axes[i].name == axis) return value.stride[i];
    VORTEX_CHECK(false, "no axis ", axis);
  }

  void emit_reduction(ValueId id) {
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

  void emit_along(ValueId id) {
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

  void emit_contraction(ValueId id) {
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

  // One loop of equal steps instead of several, or nothing when they do not join.
  struct Loop {
    std::int64_t count = 1, in = 0, out = 0;
  };
  static std::optional<Loop> one_loop(const std::vector<Loop>& loops) {
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

  // A row value against a summary still in its field, contracted over elements that lie side by side: streamed from the
  // arena. False when the operands are not like that.
  bool emit_stream(ValueId id, ValueId row, ValueId page, const std::string& over) {
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

  // The row value in packed order, made at the end of the stage that makes the value.
  Operand packed(ValueId row, const std::string& over, std::int64_t heads, std::int64_t dim, int field) {
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

  // Shape ops move nothing when the elements still stand at even steps; else they copy by a table.
  void emit_shape(ValueId id) {
    const Node& at = node(id);
    const ValueId input = at.inputs[0];
    const std::vector<std::int64_t> out_shape = shape(id), in_shape = shape(input);
    const Value from = value_of(input);
    std::vector<std::vector<std::int64_t>> moved;  // input index of each output element
    std::vector<std::int64_t> out_index(out_shape.size(), 0), in_index(in_shape.size(), 0);
    const ir::MoveContext context{node(input).type, at.type, in_shape, at.attributes};
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

  // ---- Stages ----

  void begin(Instructions& code, bool row_mode) {
    code_ = &code;
    row_mode_ = row_mode;
    buffers_.clear();
    local_.clear();
    gathered_.clear();
  }

  void place_buffers(Instructions& code) {
    std::int64_t& elements = summarizing_ ? page_elements_ : chunk_elements_;
    elements = std::max(elements, place_scratch(code, buffers_));
  }

  void lower_summarize(const Stage& stage) {
    summarizing_ = true;
    begin(out_.summarize, true);
    for (ValueId id : stage.nodes) emit(id);
    for (std::size_t f = 0; f < plan_.program.summaries.size(); ++f) {
      const ValueId id = plan_.program.summaries[f].value;
      const Value value = memory_of(id);
      const int narrowed = static_cast<int>(buffers_.size());
      buffers_.push_back(elements(id));
      Instruction& store = add(Opcode::store_field, id);
      store.field = static_cast<int>(f);
      store.a = operand_of(value);
      store.table = table_of(id, value.stride);
      store.out = {Space::scratch, 0, {}, 0, narrowed};
    }
    place_buffers(out_.summarize);
    summarizing_ = false;
  }

  void lower_row(const Stage& stage) {
    begin(out_.row, true);
    for (ValueId id : stage.nodes) emit(id);
    keep_rows(stage, out_.row);
  }

  // Row values stay where they are for all later stages.
  void keep_rows(const Stage& stage, Instructions& made) {
    for (ValueId id : stage.nodes) {
      if (is_page(id)) continue;
      kept_[id] = local_.at(id);
      made_in_[id] = &made;
    }
  }

  // A page value goes to the spill space, where later stages and sweeps find it.
  void spill(ValueId id) {
    const Value value = memory_of(id);
    Instruction& copy = add(Opcode::copy, id);
    copy.a = operand_of(value);
    copy.table = table_of(id, value.stride);
    Value kept;
    kept.space = Space::spill;
    kept.offset = out_.spill_elements;
    kept.stride = dense(shape(id));
    kept.lanes = true;
    out_.spill_elements += elements(id);
    copy.out = operand_of(kept);
    kept_[id] = kept;
  }

  void lower_page(const Stage& stage, bool last) {
    Instructions code;
    begin(code, false);
    for (ValueId id : stage.nodes)
      if (node(id).op->kind != OpKind::source) emit(id);
    if (last) {
      // The score ends in a buffer of its own, from which each chunk is handed out.
      const Operand score = operand_of(memory_of(plan_.program.score));
      Instruction& copy = add(Opcode::copy, plan_.program.score);
      copy.a = score;
      copy.table = {0};
      copy.out = {Space::scratch, 0, {}, 1, static_cast<int>(buffers_.size())};
      buffers_.push_back(1);
    } else {
      for (ValueId id : stage.outputs)
        if (is_page(id)) spill(id);
    }
    place_buffers(code);
    if (last) out_.score = code.back().out;
    out_.page.push_back(std::move(code));
  }

  // A finish is row work and sweeps in turn: a fold of sweep s is a row value from sweep s + 1 on.
  void lower_finish(const Stage& stage) {
    std::map<ValueId, int>
        sweep;  // of page nodes: the sweep that makes them; of row nodes: the first that may read them
    int last = 0;
    auto has = [](const std::vector<ValueId>& list, ValueId id) {
      return std::find(list.begin(), list.end(), id) != list.end();
    };
    for (ValueId id : stage.nodes) {
      int at = 0;
      for (ValueId input : node(id).inputs)
        if (auto found = sweep.find(input); found != sweep.end()) at = std::max(at, found->second);
      if (ir::axis_of(node(id)) == "page" && !is_page(id)) ++at;
      sweep[id] = at;
      last = std::max(last, at);
    }
    // At stable addresses until all is lowered: packing appends to row lists later.
    finish_.push_back(std::make_unique<std::vector<Sweep>>(static_cast<std::size_t>(last) + 1));
    std::vector<Sweep>& sweeps = *finish_.back();
    begin(sweeps[0].rows, true);
    for (int s = 0; s <= last; ++s) {
      Sweep& here = sweeps[static_cast<std::size_t>(s)];
      code_ = &here.rows;
      row_mode_ = true;
      for (ValueId id : stage.nodes) {
        if (is_page(id) || sweep[id] != s) continue;
        if (ir::axis_of(node(id)) == "page") {
          emit_fold_end(id);
        } else {
          emit(id);
        }
        kept_[id] = local_.at(id);
        made_in_[id] = &here.rows;
      }
      Instructions begins;
      Instructions* rows = code_;
      code_ = &here.pages;
      row_mode_ = false;
      // Lanes of the sweep before are gone: what is read again was spilled, sources are made again.
      std::erase_if(local_, [&](const auto& entry) { return is_page(entry.first); });
      gathered_.clear();
      buffers_.clear();
      for (ValueId id : stage.nodes) {
        const bool over_page = ir::axis_of(node(id)) == "page";
        if (is_page(id) && sweep[id] == s && node(id).op->kind != OpKind::source) {
          if (over_page) {
            emit_scan(id, begins);
            continue;
          }
          emit(id);
          bool read_later = has(stage.outputs, id);
          for (ValueId other : stage.nodes)
            if (has(node(other).inputs, id) && is_page(other) && sweep[other] > s) read_later = true;
          if (read_later) {
            const Value lanes = local_.at(id);
            spill(id);
            local_[id] = lanes;
          }
        } else if (!is_page(id) && over_page && sweep[id] == s + 1) {
          emit_fold(id, begins);
        }
      }
      place_buffers(here.pages);
      rows->insert(rows->end(), begins.begin(), begins.end());
    }
  }

  static std::optional<std::pair<tile::Fold, Finish>> fold_of(const std::string& name) {
    if (name == "sum") return std::make_pair(tile::Fold::sum, Finish::as_is);
    if (name == "mean") return std::make_pair(tile::Fold::sum, Finish::mean);
    if (name == "max") return std::make_pair(tile::Fold::max, Finish::as_is);
    if (name == "min") return std::make_pair(tile::Fold::min, Finish::as_is);
    if (name == "norm") return std::make_pair(tile::Fold::sum_of_squares, Finish::root);
    return std::nullopt;
  }

  void emit_fold(ValueId id, Instructions& begins) {
    const auto op = fold_of(node(id).op->tile);
    if (!op) refuse(id, ir::print(node(id).type));
    const ValueId input = node(id).inputs[0];
    const Value from = memory_of(input);
    const Operand state{Space::rows, take_rows(elements(id) * tile::kLanes), {}, 0, -1};
    Instruction start;
    start.code = Opcode::fold_begin;
    start.value = id;
    start.op = static_cast<std::uint8_t>(op->first);
    start.extent = elements(id);
    start.out = state;
    begins.push_back(start);
    Instruction& fold = add(Opcode::fold, id);
    fold.op = start.op;
    fold.a = operand_of(from);
    fold.table = table_of(input, from.stride);
    fold.out = state;
    states_[id] = state;
  }

  void emit_fold_end(ValueId id) {
    const auto op = fold_of(node(id).op->tile);
    Value value = place(id);
    Instruction& end = add(Opcode::fold_end, id);
    end.op = static_cast<std::uint8_t>(op->first);
    end.finish = op->second;
    end.extent = elements(id);
    end.a = states_.at(id);
    end.out = operand_of(value);
    local_[id] = value;
  }

  // cumsum along "page": chunks follow each other, the running sums wait in the rows.
  void emit_scan(ValueId id, Instructions& begins) {
    if (node(id).op->tile != "cumsum") refuse(id, ir::print(node(id).type));
    const ValueId input = node(id).inputs[0];
    const Value from = memory_of(input);
    const Operand state{Space::rows, take_rows(elements(id) * tile::kLanes), {}, 0, -1};
    Instruction start;
    start.code = Opcode::scan_begin;
    start.value = id;
    start.extent = elements(id);
    start.out = state;
    begins.push_back(start);
    Value kept;
    kept.space = Space::spill;
    kept.offset = out_.spill_elements;
    kept.stride = dense(shape(id));
    kept.lanes = true;
    out_.spill_elements += elements(id);
    Instruction& scan = add(Opcode::scan, id);
    scan.a = operand_of(from);
    scan.b = state;
    scan.table = table_of(input, from.stride);
    scan.out = operand_of(kept);
    kept_[id] = kept;
    local_[id] = kept;
  }

  const Plan& plan_;
  TileProgram out_;
  bool summarizing_ = false, row_mode_ = true;
  Instructions* code_ = nullptr;
  std::int64_t page_elements_ = 0, chunk_elements_ = 0;  // of scratch, in summarize and in the other stages
  std::vector<std::int64_t> buffers_;                    // elements of the scratch buffers of the current stage
  std::map<ValueId, Value> local_, kept_;                // of the current stage; of all stages so far
  std::map<int, int> gathered_;                          // field → buffer
  std::map<std::pair<ValueId, std::string>, Operand> packed_;
  std::map<ValueId, Instructions*> made_in_;
  std::map<ValueId, Operand> states_;
  std::vector<std::unique_ptr<std::vector<Sweep>>> finish_;
};

}  // namespace

TileProgram lower(const compiler::Plan& plan) { return Lowering(plan).run(); }

}  // namespace vortex::codegen
