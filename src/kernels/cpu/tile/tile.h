// Tile primitives of the CPU backend: one call works through a whole loop nest of float32, innermost over `lanes`
// (pages of a chunk, or the last axis of a row value). They know no flows and no IR; strides may be zero to broadcast.
// Every output element is computed by the same operations in the same order wherever it stands in its run of lanes, so
// results do not depend on how pages are cut into chunks.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace vortex::kernels::tile {

// Floats that a primitive may read (never write) past the end of a run; buffers end with that many to spare.
inline constexpr std::int64_t kPadding = 16;
// Lanes of a page-mode run are a multiple of this, the largest vector.
inline constexpr std::int64_t kLanes = 16;
inline constexpr int kMaxRank = 10;

struct Nest {
  int rank = 0;  // outer loops, outermost first
  std::int64_t extent[kMaxRank] = {};
  std::int64_t lanes = 1;
};

// Element (i0, …, lane) is data[Σ i·stride + lane·lane_stride].
struct Input {
  const float* data = nullptr;
  std::int64_t stride[kMaxRank] = {};
  std::int64_t lane_stride = 1;
};
struct Output {
  float* data = nullptr;
  std::int64_t stride[kMaxRank] = {};  // lanes are contiguous
};

// Elementwise, listed in map_table.inl. Comparisons give 1 or 0; maximum and minimum pass over a NaN.
enum class Map : std::uint8_t {
#define VORTEX_TILE_MAP(name, operands, ...) name,
#include "kernels/cpu/tile/map_table.inl"
#undef VORTEX_TILE_MAP
};
std::optional<Map> find_map(std::string_view name);
// parameters: low and high of clamp, else unused.
void map(Map, const Nest&, const Input* inputs, const Output&, const float* parameters);

// One axis of `extent` elements, `stride` apart in the input, disappears. Sums run over it in ascending order.
enum class Reduction : std::uint8_t { sum, mean, max, min, norm, logsumexp };
std::optional<Reduction> find_reduction(std::string_view name);
void reduce(Reduction, const Nest&, const Input&, std::int64_t extent, std::int64_t stride, const Output&);

// One axis of `extent` elements stays and each of its elements depends on all of them. Output must not alias the input.
enum class Along : std::uint8_t { softmax, normalize, cumsum };
std::optional<Along> find_along(std::string_view name);
void along(Along, const Nest&, const Input&, std::int64_t extent, std::int64_t stride, const Output&,
           std::int64_t output_stride);

// out = Σ_k a·b in ascending k with fused multiply-add.
void contract(const Nest&, const Input& a, std::int64_t a_stride, const Input& b, std::int64_t b_stride,
              std::int64_t extent, const Output&);

// Folds of runs over candidates. The state of each is kLanes partial results; lane l takes the elements whose position
// from the start of the row is l modulo kLanes, so every call but the last of a row must pass a multiple of kLanes. max
// and min pass over NaN; of nothing, or of NaN alone, they are NaN.
enum class Fold : std::uint8_t { sum, max, min, sum_of_squares };
void fold_begin(Fold, float* state);
void fold(Fold, std::span<const float* const> runs, std::int64_t count, float* states);
void fold_product(const float* a, const float* b, std::int64_t count, float* state);  // sum of a·b
float fold_end(Fold, const float* state);

// Sets of pages: out[i] is 1 when candidate i is chosen, else 0. By number the `amount` largest, ties to the lower
// index and NaN last; by share the fewest largest whose sum is at least amount times the sum of all that are above 0.
enum class Choice : std::uint8_t { top_k, top_p };
std::optional<Choice> find_choice(std::string_view name);
void choose(Choice, const float* values, std::int64_t count, float amount, float* out);
// out[i] = initial + run[0] + … + run[i]; returns the last, in double so that long rows keep their digits.
double scan(const float* run, std::int64_t count, double initial, float* out);

// How summaries lie in their arena.
enum class Storage : std::uint8_t { f32, bf16 };
struct Arena {
  const void* base = nullptr;
  Storage storage = Storage::bf16;
  std::int64_t page_stride = 0;         // elements from one physical page to the next
  const std::int32_t* pages = nullptr;  // [available] physical page of each candidate
  std::int64_t count = 0;               // candidates to work on
  std::int64_t available = 0;           // entries of `pages` that may be prefetched, at least count
};

// out[e · out_stride + p] = element e of candidate p, for e in [0, elements); lanes up to a multiple of kLanes are
// written.
void gather(const Arena&, std::int64_t elements, float* out, std::int64_t out_stride);

// The hot loop of scoring: out[h · head_stride + v · vector_stride + p] = Σ_d q[h, d] · summary[p][v · vector_step + d]
// for the `vectors` vectors of each candidate, streamed from the arena. Lanes up to a multiple of kLanes are written.
// Several rows over the same candidates (the KV heads of a sequence) go through a page together: what they read lies
// side by side. A row's bits do not depend on the others.
struct SummaryContraction {
  std::int64_t heads = 1, vectors = 1, dim = 0;
  std::int64_t vector_step = 0;  // elements from one vector of a page to the next
  std::int64_t head_stride = 0, vector_stride = 0;
};
std::int64_t packed_floats(std::int64_t heads, std::int64_t dim);
// q: [heads, dim] → packed: [packed_floats(heads, dim)], in the order this machine's vectors want.
void pack_queries(const float* q, std::int64_t heads, std::int64_t dim, Storage, float* packed);
struct SummaryRow {
  std::int64_t offset = 0;  // elements from the arena's base to what this row reads of page 0
  const float* packed = nullptr;
  float* out = nullptr;
};
void contract_summary(const Arena&, const SummaryContraction&, std::span<const SummaryRow>);

// Conversions of whole runs; to bf16 rounds to nearest even.
void widen(const std::uint16_t* bf16, std::int64_t count, float* out);
void narrow(const float* values, std::int64_t count, std::uint16_t* bf16);

}  // namespace vortex::kernels::tile
