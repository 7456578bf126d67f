// Runs tile instructions over rows, or over one chunk of their candidates.
#pragma once

#include <span>

#include "codegen/cpu/program.h"

namespace vortex::codegen {

// The instances that a stage runs over.
struct Instances {
  const std::int32_t* homes = nullptr;   // [count] physical page that holds the summary of each
  const std::int32_t* places = nullptr;  // [count] of a set: where each stands in the domain of its members
  std::int64_t first = 0, count = 0;     // index of that domain's first instance
};

// The memory an instruction list works in.
struct Frame {
  float* scratch = nullptr;
  std::int64_t scratch_unit = 1;
  float* rows = nullptr;
  float* spill = nullptr;
  std::int64_t capacity = 0;  // floats of a spilled element
  const RowArguments* row = nullptr;
  std::span<const LaneDomain> domains;
  Instances instances;  // of the stage
  std::int64_t page_tokens = 0;
  std::span<const FieldLayout> fields;
  // The chunk: candidates [begin, begin + count). Row work: count 0.
  std::int64_t begin = 0, count = 0;
  // summarize only.
  const BFloat16* const* k = nullptr;
  const BFloat16* const* v = nullptr;
  void* const* outputs = nullptr;
  const float* const* parameters = nullptr;  // of the layer and KV head
  std::int64_t tokens = 0, head_dim = 0, value_dim = 0, group = 0;
};

inline constexpr std::size_t kRowsAtOnce = 8;
// Frames of several rows differ in q, fields of another KV head, and memory; candidates and chunk are the same.
// At most kRowsAtOnce.
void execute(const Instructions&, std::span<const Frame>);
inline void execute(const Instructions& code, const Frame& frame) { execute(code, std::span(&frame, 1)); }

// Of a domain of the row; a set must have been listed.
Instances instances_of(int domain, const Frame&);

// Where an operand's first element lies; for page values, at the chunk's first candidate.
float* address(const Operand&, const Frame&);

}  // namespace vortex::codegen
