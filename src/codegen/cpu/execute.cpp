#include "codegen/cpu/execute.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "ir/interpret.h"

namespace vortex::codegen {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::int64_t unit_of(Space space, const Frame& frame) {
  return space == Space::scratch ? frame.scratch_unit : space == Space::spill ? frame.capacity : 1;
}

tile::Input input(const Operand& operand, const tile::Nest& nest, const Frame& frame) {
  tile::Input in;
  in.data = address(operand, frame);
  const std::int64_t unit = unit_of(operand.space, frame);
  for (int loop = 0; loop < nest.rank; ++loop) in.stride[loop] = operand.stride[loop] * unit;
  in.lane_stride = operand.lane_stride;
  return in;
}

tile::Output output(const Operand& operand, const tile::Nest& nest, const Frame& frame) {
  tile::Output out;
  out.data = address(operand, frame);
  const std::int64_t unit = unit_of(operand.space, frame);
  for (int loop = 0; loop < nest.rank; ++loop) out.stride[loop] = operand.stride[loop] * unit;
  return out;
}

float scalar(const Instruction& at, const RowArguments* row) {
  switch (static_cast<Scalar>(at.op)) {
    case Scalar::constant:
      return at.parameters[0];
    case Scalar::pages:
      return static_cast<float>(row->pages);
    case Scalar::tokens:
      return static_cast<float>(row->tokens);
    case Scalar::step:
      return static_cast<float>(row->step);
    case Scalar::layer:
      return static_cast<float>(row->layer);
    case Scalar::layers:
      return static_cast<float>(row->layers);
    case Scalar::scale:
      return row->scale;
    case Scalar::left:
      return static_cast<float>(row->left);
  }
  return 0.0f;
}

tile::Arena arena_of(const Instruction& at, const Frame& frame) {
  const auto field = static_cast<std::size_t>(at.field);
  const bool narrow = frame.fields[field].dtype == ir::DType::bf16;
  const FieldView& view = frame.row->fields[field];
  const std::int64_t bytes = at.field_offset * (narrow ? 2 : 4);
  return {static_cast<const char*>(view.base) + bytes,
          narrow ? tile::Storage::bf16 : tile::Storage::f32,
          view.page_stride,
          frame.instances.homes + frame.begin,
          frame.count,
          frame.instances.count - frame.begin};
}

// Elements by table: single floats of a row, runs of a chunk for pages.
void copy(const Instruction& at, const Frame& frame) {
  const float* from = address(at.a, frame);
  float* to = address(at.out, frame);
  const std::int64_t from_unit = unit_of(at.a.space, frame), to_unit = unit_of(at.out.space, frame);
  const auto elements = static_cast<std::int64_t>(at.table.size());
  if (at.out.lane_stride == 0) {
    for (std::int64_t i = 0; i < elements; ++i)
      to[i * to_unit] = from[at.table[static_cast<std::size_t>(i)] * from_unit];
    return;
  }
  for (std::int64_t i = 0; i < elements; ++i) {
    const float* run = from + at.table[static_cast<std::size_t>(i)] * from_unit;
    float* target = to + i * to_unit;
    if (at.a.lane_stride == 0) {
      std::fill(target, target + frame.count, *run);
    } else {
      std::memcpy(target, run, static_cast<std::size_t>(frame.count) * sizeof(float));
    }
  }
}

void fold(const Instruction& at, const Frame& frame) {
  constexpr std::size_t kRuns = 16;  // handed over at once
  const float* from = address(at.a, frame);
  float* states = address(at.out, frame);
  const std::int64_t unit = unit_of(at.a.space, frame);
  for (std::size_t first = 0; first < at.table.size(); first += kRuns) {
    const float* runs[kRuns];
    const std::size_t count = std::min(kRuns, at.table.size() - first);
    for (std::size_t i = 0; i < count; ++i) runs[i] = from + at.table[first + i] * unit;
    tile::fold(static_cast<tile::Fold>(at.op), std::span(runs, count), frame.count,
               states + static_cast<std::int64_t>(first) * tile::kLanes);
  }
}

void fold_end(const Instruction& at, const Frame& frame) {
  const float* states = address(at.a, frame);
  float* out = address(at.out, frame);
  const auto op = static_cast<tile::Fold>(at.op);
  const std::int64_t instances = instances_of(at.domain, frame).count;
  for (std::int64_t i = 0; i < at.extent; ++i) {
    float value = tile::fold_end(op, states + i * tile::kLanes);
    if (at.finish == Finish::mean) value = instances > 0 ? value / static_cast<float>(instances) : 0.0f;
    if (at.finish == Finish::root) value = std::sqrt(value);
    if (instances == 0 && (op == tile::Fold::max || op == tile::Fold::min))
      value = op == tile::Fold::max ? -kInfinity : kInfinity;
    out[i] = value;
  }
}

void scan(const Instruction& at, const Frame& frame) {
  const float* from = address(at.a, frame);
  float* states = address(at.b, frame);
  float* out = address(at.out, frame);
  for (std::size_t i = 0; i < at.table.size(); ++i) {
    double total;
    std::memcpy(&total, states + i * tile::kLanes, sizeof(total));
    total = tile::scan(from + at.table[i] * unit_of(at.a.space, frame), frame.count, total,
                       out + static_cast<std::int64_t>(i) * frame.capacity);
    std::memcpy(states + i * tile::kLanes, &total, sizeof(total));
  }
}

std::int32_t* list_of(const LaneDomain& domain, std::int64_t which, const Frame& frame) {
  return reinterpret_cast<std::int32_t*>(frame.spill + (domain.lists + which) * frame.capacity);
}

void group_homes(const Instruction& at, const Frame& frame) {
  const LaneDomain& domain = frame.domains[static_cast<std::size_t>(at.domain)];
  const Instances groups = instances_of(at.domain, frame);
  std::int32_t* homes = list_of(domain, 0, frame);
  for (std::int64_t i = 0; i < groups.count; ++i)
    homes[i] = frame.row->summary_page[(groups.first + i + 1) * domain.pages - 1 - frame.row->first_page];
}

void members(const Instruction& at, const Frame& frame) {
  const LaneDomain& domain = frame.domains[static_cast<std::size_t>(at.domain)];
  const Instances all = instances_of(domain.of, frame);
  const float* in_set = address(at.a, frame);
  std::int32_t *homes = list_of(domain, 0, frame), *places = list_of(domain, 1, frame);
  std::int32_t count = 0;
  for (std::int64_t i = 0; i < all.count; ++i) {
    homes[count] = all.homes[i];
    places[count] = static_cast<std::int32_t>(i);
    count += in_set[i] != 0.0f;
  }
  frame.rows[domain.count] = static_cast<float>(count);
}

// Members of a set are chosen among themselves; pages outside are not in the result.
void choose(const Instruction& at, const Frame& frame) {
  const Instances from = instances_of(at.domain, frame);
  const auto op = static_cast<tile::Choice>(at.op);
  float* out = address(at.out, frame);
  if (from.places == nullptr) {
    tile::choose(op, address(at.a, frame), from.count, *address(at.b, frame), out);
    return;
  }
  float* chosen = address(at.c, frame);
  tile::choose(op, address(at.a, frame), from.count, *address(at.b, frame), chosen);
  std::fill_n(out, instances_of(frame.domains[static_cast<std::size_t>(at.domain)].of, frame).count, 0.0f);
  for (std::int64_t i = 0; i < from.count; ++i) out[from.places[i]] = chosen[i];
}

void restrict(const Instruction& at, const Frame& frame) {
  const Instances from = instances_of(at.from, frame);
  const float* kept = frame.spill + at.a.offset * frame.capacity;
  float* out = address(at.out, frame);
  const std::int64_t unit = unit_of(at.out.space, frame);
  std::int64_t behind = 0;  // of two sets: where the next member stands in the wider one
  for (std::int64_t i = 0; i < frame.count; ++i) {
    std::int64_t place = frame.instances.places[frame.begin + i];
    if (from.places != nullptr) {
      if (i == 0) behind = std::lower_bound(from.places, from.places + from.count, place) - from.places;
      while (from.places[behind] < place) ++behind;
      place = behind;
    }
    for (std::size_t e = 0; e < at.table.size(); ++e)
      out[static_cast<std::int64_t>(e) * unit + i] = kept[at.table[e] * frame.capacity + place];
  }
}

void spread(const Instruction& at, const Frame& frame) {
  const Instances from = instances_of(at.from, frame);
  const float* kept = frame.spill + at.a.offset * frame.capacity;
  float* out = address(at.out, frame);
  const std::int64_t unit = unit_of(at.out.space, frame);
  const std::int64_t pages = frame.domains[static_cast<std::size_t>(at.domain)].pages,
                     group = frame.domains[static_cast<std::size_t>(at.from)].pages;
  std::int64_t behind =
      from.places == nullptr ? 0 : std::lower_bound(from.places, from.places + from.count, frame.begin) - from.places;
  for (std::int64_t i = 0; i < frame.count; ++i) {
    std::int64_t place = -1;
    if (from.places != nullptr) {
      if (behind < from.count && from.places[behind] == frame.begin + i) place = behind++;
    } else {
      place = (frame.instances.first + frame.begin + i) * pages / group - from.first;
      if (place < 0 || place >= from.count) place = -1;
    }
    for (std::size_t e = 0; e < at.table.size(); ++e)
      out[static_cast<std::int64_t>(e) * unit + i] =
          place < 0 ? at.parameters[0] : kept[at.table[e] * frame.capacity + place];
  }
}

void shift(const Instruction& at, const Frame& frame) {
  const std::int64_t count = instances_of(at.from, frame).count;
  const float* kept = frame.spill + at.a.offset * frame.capacity;
  float* out = address(at.out, frame);
  const std::int64_t unit = unit_of(at.out.space, frame);
  for (std::size_t e = 0; e < at.table.size(); ++e) {
    const float* values = kept + at.table[e] * frame.capacity;
    float* to = out + static_cast<std::int64_t>(e) * unit;
    for (std::int64_t i = 0; i < frame.count; ++i) {
      const std::int64_t place = frame.begin + i - at.by;
      to[i] = place < 0 || place >= count ? at.parameters[0] : values[place];
    }
  }
}

void load_token(const Instruction& at, const Frame& frame) {
  const BFloat16* const* rows = at.field == 0 ? frame.k : frame.v;
  const std::int64_t channels = at.field == 0 ? frame.head_dim : frame.value_dim;
  float* out = address(at.out, frame);
  for (std::int64_t token = 0; token < frame.tokens; ++token)
    tile::widen(&rows[token]->bits, channels, out + token * channels);
}

void store_field(const Instruction& at, const Frame& frame) {
  const float* from = address(at.a, frame);
  const auto field = static_cast<std::size_t>(at.field);
  const std::size_t count = at.table.size();
  if (frame.fields[field].dtype == ir::DType::f32) {
    auto* out = static_cast<float*>(frame.outputs[field]);
    for (std::size_t i = 0; i < count; ++i) out[i] = from[at.table[i]];
    return;
  }
  float* dense = address(at.out, frame);
  for (std::size_t i = 0; i < count; ++i) dense[i] = from[at.table[i]];
  tile::narrow(dense, static_cast<std::int64_t>(count), static_cast<std::uint16_t*>(frame.outputs[field]));
}

// State lies element by element, its candidates side by side.
void load_state(const Instruction& at, const Frame& frame) {
  const StateView& state = frame.row->states[at.field];
  float* out = address(at.out, frame);
  if (at.out.lane_stride == 0) {
    std::memcpy(out, state.from, static_cast<std::size_t>(at.extent) * sizeof(float));
    return;
  }
  if (const std::int32_t* places = frame.instances.places; places != nullptr) {  // of the pages of a set
    for (std::int64_t e = 0; e < at.extent; ++e)
      for (std::int64_t i = 0; i < frame.count; ++i)
        out[e * unit_of(at.out.space, frame) + i] = state.from[e * state.stride + places[frame.begin + i]];
    return;
  }
  for (std::int64_t e = 0; e < at.extent; ++e)
    std::memcpy(out + e * unit_of(at.out.space, frame), state.from + e * state.stride + frame.begin,
                static_cast<std::size_t>(frame.count) * sizeof(float));
}

void store_state(const Instruction& at, const Frame& frame) {
  const StateView& state = frame.row->states[at.field];
  const float* from = address(at.a, frame);
  const std::int64_t unit = unit_of(at.a.space, frame);
  const auto elements = static_cast<std::int64_t>(at.table.size());
  for (std::int64_t e = 0; e < elements; ++e) {
    const float* run = from + at.table[static_cast<std::size_t>(e)] * unit;
    if (at.a.lane_stride == 0)
      state.to[e] = *run;
    else
      std::memcpy(state.to + e * state.stride + frame.begin, run,
                  static_cast<std::size_t>(frame.count) * sizeof(float));
  }
}

void stream(const Instruction& at, std::span<const Frame> frames) {
  tile::SummaryContraction shape = at.streamed;
  shape.head_stride *= unit_of(at.out.space, frames[0]);
  shape.vector_stride *= unit_of(at.out.space, frames[0]);
  const tile::Arena arena = arena_of(at, frames[0]);
  const char* base = static_cast<const char*>(arena.base);
  const std::int64_t bytes = arena.storage == tile::Storage::bf16 ? 2 : 4;
  tile::SummaryRow rows[kRowsAtOnce];
  VORTEX_CHECK(frames.size() <= kRowsAtOnce, frames.size(), " rows at once");
  for (std::size_t r = 0; r < frames.size(); ++r)
    rows[r] = {(static_cast<const char*>(arena_of(at, frames[r]).base) - base) / bytes, address(at.a, frames[r]),
               address(at.out, frames[r])};
  tile::contract_summary(arena, shape, std::span(rows, frames.size()));
}

void run(const Instruction& at, const Frame& frame) {
  tile::Nest nest = at.nest;
  if (frame.count > 0) nest.lanes = (frame.count + tile::kLanes - 1) / tile::kLanes * tile::kLanes;
  switch (at.code) {
    case Opcode::load_q:
      std::memcpy(address(at.out, frame), frame.row->q,
                  static_cast<std::size_t>(frame.group * frame.head_dim) * sizeof(float));
      return;
    case Opcode::load_param:
      std::memcpy(address(at.out, frame), frame.parameters[at.field],
                  static_cast<std::size_t>(at.extent) * sizeof(float));
      return;
    case Opcode::scalar:
      *address(at.out, frame) = scalar(at, frame.row);
      return;
    case Opcode::map: {
      tile::Input inputs[3];
      inputs[0] = input(at.a, nest, frame);
      if (at.b.space != Space::none) inputs[1] = input(at.b, nest, frame);
      if (at.c.space != Space::none) inputs[2] = input(at.c, nest, frame);
      tile::map(static_cast<tile::Map>(at.op), nest, inputs, output(at.out, nest, frame), at.parameters);
      return;
    }
    case Opcode::reduce:
      tile::reduce(static_cast<tile::Reduction>(at.op), nest, input(at.a, nest, frame), at.extent,
                   at.a_axis * unit_of(at.a.space, frame), output(at.out, nest, frame));
      return;
    case Opcode::along:
      tile::along(static_cast<tile::Along>(at.op), nest, input(at.a, nest, frame), at.extent,
                  at.a_axis * unit_of(at.a.space, frame), output(at.out, nest, frame),
                  at.out_axis * unit_of(at.out.space, frame));
      return;
    case Opcode::contract:
      tile::contract(nest, input(at.a, nest, frame), at.a_axis * unit_of(at.a.space, frame), input(at.b, nest, frame),
                     at.b_axis * unit_of(at.b.space, frame), at.extent, output(at.out, nest, frame));
      return;
    case Opcode::copy:
      copy(at, frame);
      return;
    case Opcode::page_index: {
      float* out = address(at.out, frame);
      for (std::int64_t i = 0; i < frame.count; ++i) {
        const std::int64_t place = frame.begin + i;
        out[i] = static_cast<float>(frame.instances.first +
                                    (frame.instances.places ? frame.instances.places[place] : place));
      }
      return;
    }
    case Opcode::gather:
      tile::gather(arena_of(at, frame), frame.fields[static_cast<std::size_t>(at.field)].elements,
                   address(at.out, frame), frame.scratch_unit);
      return;
    case Opcode::pack: {
      const bool narrow = frame.fields[static_cast<std::size_t>(at.field)].dtype == ir::DType::bf16;
      tile::pack_queries(address(at.a, frame), at.streamed.heads, at.streamed.dim,
                         narrow ? tile::Storage::bf16 : tile::Storage::f32, address(at.out, frame));
      return;
    }
    case Opcode::stream:  // for all rows at once, below
      return;
    case Opcode::fold_begin:
      for (std::int64_t i = 0; i < at.extent; ++i)
        tile::fold_begin(static_cast<tile::Fold>(at.op), address(at.out, frame) + i * tile::kLanes);
      return;
    case Opcode::fold:
      fold(at, frame);
      return;
    case Opcode::fold_product: {
      const float *a = address(at.a, frame), *b = address(at.b, frame);
      const std::int64_t a_unit = unit_of(at.a.space, frame), b_unit = unit_of(at.b.space, frame);
      for (std::size_t i = 0; i + 1 < at.table.size(); i += 2)
        tile::fold_product(a + at.table[i] * a_unit, b + at.table[i + 1] * b_unit, frame.count,
                           address(at.out, frame) + static_cast<std::int64_t>(i / 2) * tile::kLanes);
      return;
    }
    case Opcode::choose:
      choose(at, frame);
      return;
    case Opcode::group_homes:
      group_homes(at, frame);
      return;
    case Opcode::members:
      members(at, frame);
      return;
    case Opcode::restrict:
      restrict(at, frame);
      return;
    case Opcode::spread:
      spread(at, frame);
      return;
    case Opcode::shift:
      shift(at, frame);
      return;
    case Opcode::fold_end:
      fold_end(at, frame);
      return;
    case Opcode::scan_begin: {
      const double zero = 0.0;
      for (std::int64_t i = 0; i < at.extent; ++i)
        std::memcpy(address(at.out, frame) + i * tile::kLanes, &zero, sizeof(zero));
      return;
    }
    case Opcode::scan:
      scan(at, frame);
      return;
    case Opcode::load_token:
      load_token(at, frame);
      return;
    case Opcode::store_field:
      store_field(at, frame);
      return;
    case Opcode::load_state:
      load_state(at, frame);
      return;
    case Opcode::store_state:
      store_state(at, frame);
      return;
  }
}

}  // namespace

Instances instances_of(int number, const Frame& frame) {
  const RowArguments& row = *frame.row;
  if (number == 0) return {row.summary_page, nullptr, row.first_page, row.candidates};
  const LaneDomain& domain = frame.domains[static_cast<std::size_t>(number)];
  if (domain.of < 0) {
    const ir::GroupRange groups =
        ir::groups_of(domain.pages, row.first_page, row.candidates, row.tokens / frame.page_tokens);
    return {list_of(domain, 0, frame), nullptr, groups.first, groups.count};
  }
  return {list_of(domain, 0, frame), list_of(domain, 1, frame), instances_of(domain.of, frame).first,
          static_cast<std::int64_t>(frame.rows[domain.count])};
}

float* address(const Operand& operand, const Frame& frame) {
  switch (operand.space) {
    case Space::scratch:
      return frame.scratch + operand.offset * frame.scratch_unit;
    case Space::rows:
      return frame.rows + operand.offset;
    case Space::spill:
      return frame.spill + operand.offset * frame.capacity + frame.begin;
    case Space::none:
      break;
  }
  return nullptr;
}

void execute(const Instructions& code, std::span<const Frame> frames) {
  for (const Instruction& instruction : code) {
    if (instruction.code == Opcode::stream) {
      stream(instruction, frames);
    } else {
      for (const Frame& frame : frames) run(instruction, frame);
    }
  }
}

}  // namespace vortex::codegen
