// Tile programs: what a stage becomes on the CPU. Plain data; made by lower.cpp, run by execute.cpp.
//
// A value of a page has `elements` runs of lanes, one lane a candidate; a value of a row has its elements side by side.
// Three spaces hold values, and an element of each is `unit` floats:
//   scratch   of one worker and one chunk of pages       unit = the chunk's size (summarize: 1)
//   rows      of one row, kept from stage to stage       unit = 1
//   spill     page values that cross stages              unit = the row's capacity in candidates
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/cpu/flow.h"
#include "kernels/cpu/tile/tile.h"

namespace vortex::codegen {

namespace tile = kernels::tile;

// Candidates that one instruction works on: as many as keep a stage's scratch in the first-level cache, 128 to 512.
inline constexpr std::int64_t kLeastChunk = 128, kMostChunk = 512;
inline constexpr std::int64_t kScratchFloats = 8192;

enum class Space : std::uint8_t { none, scratch, rows, spill };

struct Operand {
  Space space = Space::none;
  std::int64_t offset = 0;                   // in elements of the space
  std::int64_t stride[tile::kMaxRank] = {};  // in elements, for each loop of the nest
  std::int64_t lane_stride = 0;              // in floats
  int buffer = -1;                           // of scratch; `offset` counts from its start until buffers are placed
};

enum class Opcode : std::uint8_t {
  load_q,        // out[elements] = q
  load_param,    // out[extent] = parameter `field` of the layer and KV head
  scalar,        // out[0] = a number of the row: `source`
  map,           // tile::map, with `op`
  reduce,        // tile::reduce
  along,         // tile::along
  contract,      // tile::contract
  copy,          // out element i = element table[i] of a
  page_index,    // out = logical index of each candidate
  gather,        // out = all elements of a field
  pack,          // out = queries a [heads, dim] in the order the contraction wants
  stream,        // tile::contract_summary of a field with packed queries a
  fold_begin,    // state `out` of each element
  fold,          // element i of a goes into state i
  fold_end,      // out element i from state i of a
  fold_product,  // elements i of a and b, multiplied, go into state i; table: pairs of elements
  choose,        // out = 1 for each candidate that `op` chooses by a and the amount b, else 0
  scan_begin,    // running sums `out` of each element
  scan,          // element i of a to out, running sum in b
  load_token,    // out = k (field 0) or v (field 1) of the page, [token, dim]
  store_field,   // summary `field` from a, elements by table
  load_state,    // out[extent] = state `field`, of the row or of each candidate
  store_state,   // state `field` in the next step from a, elements by table
  group_homes,   // the list of `domain`: the page that holds the summary of each group
  members,       // the lists of `domain` and its count: where the set a is not 0
  restrict,      // elements of a, kept of the domain `from`, for the instances of `domain`
  spread,        // elements of a, kept of the domain `from`, for those of `domain`; parameters[0] where there is none
  shift,  // elements of a, kept of the candidates, of the one `by` places before; parameters[0] where there is none
};

enum class Scalar : std::uint8_t { constant, pages, tokens, step, layer, layers, scale, left };
enum class Finish : std::uint8_t { as_is, mean, root };  // what fold_end does with the folded number

struct Instruction {
  Opcode code;
  std::uint8_t op = 0;  // Map, Reduction, Along, Fold or Scalar
  Finish finish = Finish::as_is;
  tile::Nest nest;  // lanes of page instructions are those of the chunk
  Operand a, b, c, out;
  std::int64_t extent = 0;                            // of the axis that reduce, along and contract run over
  std::int64_t a_axis = 0, b_axis = 0, out_axis = 0;  // its strides, in elements
  float parameters[2] = {0, 0};
  int field = -1;
  std::int64_t by = 0;                // of shift
  int domain = 0, from = 0;           // of what is folded, chosen, listed or brought over
  std::int64_t field_offset = 0;      // elements
  tile::SummaryContraction streamed;  // head_stride and vector_stride in elements
  std::vector<std::int32_t> table;    // element offsets
  ir::ValueId value = -1;             // of the plan, for text
};

using Instructions = std::vector<Instruction>;

// What a page stage can run over, by number. 0: the candidates. Others: their groups, or the members of a set.
struct LaneDomain {
  std::int64_t pages = 1;   // of one instance
  int of = -1;              // a set: the domain that its members are of
  std::int64_t lists = -1;  // spilled: the physical page that holds the summary of each instance; of a set, next to it,
                            // where each stands in the domain `of`
  std::int64_t count = -1;  // a set: its members, a float of `rows`
};

// Work over the instances of one domain.
struct Lanes {
  int domain = 0;
  Instructions code;
};

// Row work before, then sweeps over all instances chunk by chunk.
struct Sweep {
  Instructions rows;
  std::vector<Lanes> lanes;
};

// A parameter: `elements` floats of each layer and KV head, the axis "dim" outermost, so that a product that sums over
// it works on runs of the others.
struct ParameterLayout {
  std::string name;
  std::int64_t elements = 0;
  std::vector<std::int32_t> table;  // where each element lies in the order of its type
};

struct TileProgram {
  std::vector<FieldLayout> fields;
  std::vector<StateLayout> states;
  std::vector<ParameterLayout> parameters;
  std::vector<LaneDomain> domains;
  std::vector<std::pair<std::int64_t, Instructions>> summarize;  // pages of what is summarized
  Instructions row;
  std::vector<Lanes> page;
  std::vector<std::vector<Sweep>> finish;  // the last sweep of each has row work only
  Operand score;                           // in the last page stage
  Operand rest;                            // of `rows`: logit [head] and value [head, dim]; none without a rest
  std::int64_t row_floats = 0;             // of the space `rows`, padding included
  std::int64_t spill_elements = 0;
  std::int64_t chunk = kMostChunk;
  std::int64_t scratch_floats = 0;
};

// UserError "op X over … has no CPU implementation for …" when a primitive is missing.
TileProgram lower(const compiler::Plan&);

// One instruction a line, for VORTEX_DEBUG=3 and explain.
std::string print(const TileProgram&, const compiler::Plan&);

}  // namespace vortex::codegen
