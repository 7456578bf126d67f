// The hot loop of scoring: dot products of a few query heads with one summary vector of each candidate, streamed from
// the arena. Four pages go through the heads at once; their accumulators are transposed together, so that a page and
// head costs one horizontal sum in sixteen.
//
// Order of a sum, fixed by the instruction set and `dim` alone: lane l of N adds elements 2l and 2l + 1 of each block
// of 2N (bf16) or element l of each block of N (f32), in ascending blocks; then lanes are added as a fixed tree.
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/tile/contract.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>

#include "kernels/cpu/tile/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace vortex::kernels::tile::HWY_NAMESPACE {

// Elements that one step of the inner loop takes: a vector of bf16 pairs, or a vector of floats.
inline constexpr std::int64_t step_of(Storage storage) { return storage == Storage::bf16 ? 2 * kWidth : kWidth; }
inline std::int64_t steps_of(Storage storage, std::int64_t dim) {
  return (dim + step_of(storage) - 1) / step_of(storage);
}

// Two vectors of queries for each bf16 step (even and odd elements), one for each f32 step; zero past the end.
void run_pack(const float* q, std::int64_t heads, std::int64_t dim, Storage storage, float* packed) {
  const FloatTag d;
  const std::int64_t step = step_of(storage), steps = steps_of(storage, dim);
  for (std::int64_t h = 0; h < heads; ++h) {
    for (std::int64_t s = 0; s < steps; ++s) {
      HWY_ALIGN float rest[2 * kWidth] = {};
      const float* from = q + h * dim + s * step;
      if (const std::int64_t left = dim - s * step; left < step) {
        std::memcpy(rest, from, static_cast<std::size_t>(left) * sizeof(float));
        from = rest;
      }
      float* to = packed + (h * steps + s) * step;
      if (storage == Storage::bf16) {
        Floats even, odd;
        hn::LoadInterleaved2(d, from, even, odd);
        hn::StoreU(even, d, to);
        hn::StoreU(odd, d, to + kWidth);
      } else {
        hn::StoreU(hn::LoadU(d, from), d, to);
      }
    }
  }
}

#if HWY_TARGET == HWY_SCALAR

void run_contract_summary(const Arena& arena, const SummaryContraction& shape, std::span<const SummaryRow> rows) {
  const std::int64_t dim = shape.dim, padded = steps_of(arena.storage, dim) * step_of(arena.storage);
  const std::int64_t end = (arena.count + kLanes - 1) / kLanes * kLanes;
  for (const SummaryRow& row : rows) {
    for (std::int64_t p = 0; p < end; ++p) {
      const std::int64_t page = arena.pages[p < arena.count ? p : arena.count - 1] * arena.page_stride + row.offset;
      for (std::int64_t v = 0; v < shape.vectors; ++v) {
        for (std::int64_t h = 0; h < shape.heads; ++h) {
          float total = 0.0f;
          for (std::int64_t i = 0; i < dim; ++i) {
            const std::int64_t element = page + v * shape.vector_step + i;
            float value = 0.0f;
            if (arena.storage == Storage::f32) {
              value = static_cast<const float*>(arena.base)[element];
            } else {
              const std::uint32_t bits = std::uint32_t{static_cast<const std::uint16_t*>(arena.base)[element]} << 16;
              std::memcpy(&value, &bits, sizeof(value));
            }
            total += value * row.packed[h * padded + i];
          }
          row.out[h * shape.head_stride + v * shape.vector_stride + p] = total;
        }
      }
    }
  }
}

#else

// Elements 2l and 2l + 1 of a step in lane l. (A struct of the two would get constructors without the target
// attribute.)
HWY_INLINE void load_pair(const std::uint16_t* step, Floats& even, Floats& odd) {
  const FloatTag d;
  const BitsTag bits;
  const auto raw = hn::BitCast(bits, hn::LoadU(hn::Repartition<std::uint16_t, FloatTag>(), step));
  even = hn::BitCast(d, hn::ShiftLeft<16>(raw));
  odd = hn::BitCast(d, hn::And(raw, hn::Set(bits, 0xffff0000u)));
}

// The sums of four vectors, side by side in each block of four lanes, each over that block only: first of two pairs of
// vectors, then of the pairs.
HWY_INLINE Floats add_pair(Floats a, Floats b) {
  const FloatTag d;
  return hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
}
HWY_INLINE Floats add_pairs(Floats ab, Floats ce) {
  const FloatTag d;
  const hn::RepartitionToWide<FloatTag> wide;
  const auto left = hn::BitCast(wide, ab), right = hn::BitCast(wide, ce);
  return hn::Add(hn::BitCast(d, hn::InterleaveLower(wide, left, right)),
                 hn::BitCast(d, hn::InterleaveUpper(wide, left, right)));
}

// parts: kWidth / 4 results of add_pairs, of pages 4i … 4i + 3. Gives the totals of kWidth pages in order.
HWY_INLINE Floats add_blocks(const float* parts) {
  const FloatTag d;
  if constexpr (kWidth == 4) {
    return hn::Load(d, parts);
  } else if constexpr (kWidth == 8) {
    const Floats a = hn::Load(d, parts), b = hn::Load(d, parts + kWidth);
    return hn::Add(hn::ConcatLowerLower(d, b, a), hn::ConcatUpperUpper(d, b, a));
  } else {
    const Floats a = hn::Load(d, parts), b = hn::Load(d, parts + kWidth);
    const Floats c = hn::Load(d, parts + 2 * kWidth), e = hn::Load(d, parts + 3 * kWidth);
    const Floats ac = hn::Add(hn::ConcatLowerLower(d, c, a), hn::ConcatUpperUpper(d, c, a));
    const Floats be = hn::Add(hn::ConcatLowerLower(d, e, b), hn::ConcatUpperUpper(d, e, b));
    return hn::OddEvenBlocks(hn::Add(be, hn::SwapAdjacentBlocks(be)), hn::Add(ac, hn::SwapAdjacentBlocks(ac)));
  }
}

// Vectors that go through `Heads` heads at once. With sixteen registers those of four vectors leave no room for three
// heads: two vectors do, and share each load of a query.
template <int Heads>
inline constexpr int kTogether = HWY_TARGET == HWY_AVX2&& Heads > 2 ? 2 : 4;

// One step of kTogether vectors against `Heads` heads.
template <int Heads, int Count>
HWY_INLINE void add_step(const std::uint16_t* const* vectors, std::int64_t element, const float* query,
                         std::int64_t head_floats, Floats (&total)[Heads][Count]) {
  const FloatTag d;
  // With few registers queries are read where they lie, at each step: the compiler would keep copies on the stack.
  if constexpr (kTogether<Heads> == 2) __asm__ volatile("" : "+r"(query));
  Floats even_part[Count], odd_part[Count];
  for (int p = 0; p < Count; ++p) load_pair(vectors[p] + element, even_part[p], odd_part[p]);
  for (int h = 0; h < Heads; ++h) {
    const Floats even = hn::LoadU(d, query + h * head_floats);
    for (int p = 0; p < Count; ++p) total[h][p] = hn::MulAdd(even_part[p], even, total[h][p]);
    const Floats odd = hn::LoadU(d, query + h * head_floats + kWidth);
    for (int p = 0; p < Count; ++p) total[h][p] = hn::MulAdd(odd_part[p], odd, total[h][p]);
  }
}

template <int Heads, int Count>
HWY_INLINE void add_step(const float* const* vectors, std::int64_t element, const float* query,
                         std::int64_t head_floats, Floats (&total)[Heads][Count]) {
  const FloatTag d;
  for (int h = 0; h < Heads; ++h) {
    const Floats value = hn::LoadU(d, query + h * head_floats);
    for (int p = 0; p < Count; ++p) total[h][p] = hn::MulAdd(hn::LoadU(d, vectors[p] + element), value, total[h][p]);
  }
}

inline constexpr std::int64_t kLine = 64;
inline constexpr std::int64_t kAhead = 24;  // candidates whose summaries are requested before they are needed

HWY_INLINE void prefetch(const void* line) { __builtin_prefetch(line, 0, 2); }

// Dot products of `Heads` heads with kTogether vectors, added up by pairs: [Heads][kTogether / 2]. Dim: of the vectors
// where it is known to the compiler, else 0. The lines of as many later vectors are asked for one by one between the
// arithmetic: in a burst they would occupy the core's line buffers and the arithmetic would wait.
template <int Heads, int Dim, bool Rest, class Element>
HWY_INLINE void dot_together(const Element* const* vectors, const Element* const* later, const float* packed,
                             std::int64_t any_dim, Floats (&pairs)[Heads][kTogether<Heads> / 2]) {
  const FloatTag d;
  constexpr int count = kTogether<Heads>;
  constexpr std::int64_t bytes = sizeof(Element), step = 64 / bytes * kWidth / 16;
  const std::int64_t dim = Dim > 0 ? Dim : any_dim;
  const std::int64_t whole = dim / step * step, head_floats = (dim + step - 1) / step * step;
  Floats total[Heads][count];
  for (int h = 0; h < Heads; ++h)
    for (int p = 0; p < count; ++p) total[h][p] = hn::Zero(d);
  auto one_step = [&](std::int64_t element) HWY_ATTR {
    add_step<Heads, count>(vectors, element, packed + element, head_floats, total);
    if (element * bytes % kLine == 0)
      for (int p = 0; p < count; ++p) prefetch(later[p] + element);
  };
  if constexpr (Dim > 0) {
#pragma GCC unroll 4
    for (std::int64_t element = 0; element < whole; element += step) one_step(element);
  } else {
    for (std::int64_t element = 0; element < whole; element += step) one_step(element);
  }
  if constexpr (Rest) {
    HWY_ALIGN Element tail[count][step] = {};
    const Element* steps[count];
    for (int p = 0; p < count; ++p) {
      std::memcpy(tail[p], vectors[p] + whole, static_cast<std::size_t>(dim - whole) * sizeof(Element));
      steps[p] = tail[p];
      prefetch(later[p] + whole);
    }
    add_step<Heads, count>(steps, 0, packed + whole, head_floats, total);
  }
  for (int h = 0; h < Heads; ++h)
    for (int p = 0; p < count / 2; ++p) pairs[h][p] = add_pair(total[h][2 * p], total[h][2 * p + 1]);
}

// The same with four vectors; parts receives one vector a head, `parts_stride` floats apart.
template <int Heads, int Dim, bool Rest, class Element>
HWY_INLINE void four_pages(const Element* const* vectors, const Element* const* later, const float* packed,
                           std::int64_t dim, float* parts, std::int64_t parts_stride) {
  const FloatTag d;
  if constexpr (kTogether<Heads> == 4) {
    Floats all[Heads][2];
    dot_together<Heads, Dim, Rest>(vectors, later, packed, dim, all);
    for (int h = 0; h < Heads; ++h) hn::Store(add_pairs(all[h][0], all[h][1]), d, parts + h * parts_stride);
  } else {
    Floats first[Heads][1], second[Heads][1];
    dot_together<Heads, Dim, Rest>(vectors, later, packed, dim, first);
    dot_together<Heads, Dim, Rest>(vectors + 2, later + 2, packed, dim, second);
    for (int h = 0; h < Heads; ++h) hn::Store(add_pairs(first[h][0], second[h][0]), d, parts + h * parts_stride);
  }
}

// Candidates [begin, begin + kWidth) for `Heads` heads and one vector of the page.
template <int Heads, int Dim, bool Rest, class Element>
HWY_NOINLINE void contract_run(const Arena& arena, std::int64_t begin, std::int64_t offset, const float* packed,
                               std::int64_t dim, float* out, std::int64_t head_stride) {
  const FloatTag d;
  HWY_ALIGN float parts[Heads][kWidth / 4 * kWidth];
  const Element* base = static_cast<const Element*>(arena.base) + offset;
  const std::int32_t* pages = arena.pages;
  const std::int64_t page_stride = arena.page_stride, last = arena.count - 1, last_known = arena.available - 1;
  for (std::int64_t quad = 0; quad < kWidth / 4; ++quad) {
    const Element *vectors[4], *later[4];
    for (int p = 0; p < 4; ++p) {
      const std::int64_t candidate = begin + quad * 4 + p;
      vectors[p] = base + pages[HWY_MIN(candidate, last)] * page_stride;
      later[p] = base + pages[HWY_MIN(candidate + kAhead, last_known)] * page_stride;
    }
    four_pages<Heads, Dim, Rest>(vectors, later, packed, dim, parts[0] + quad * kWidth, kWidth / 4 * kWidth);
  }
  for (int h = 0; h < Heads; ++h) hn::StoreU(add_blocks(parts[h]), d, out + h * head_stride);
}

template <int Dim, bool Rest, class Element>
HWY_INLINE void contract_heads(std::int64_t heads, const Arena& arena, std::int64_t begin, std::int64_t offset,
                               const float* packed, std::int64_t dim, float* out, std::int64_t head_stride) {
  switch (heads) {
    case 1:
      return contract_run<1, Dim, Rest, Element>(arena, begin, offset, packed, dim, out, head_stride);
    case 2:
      return contract_run<2, Dim, Rest, Element>(arena, begin, offset, packed, dim, out, head_stride);
    case 3:
      return contract_run<3, Dim, Rest, Element>(arena, begin, offset, packed, dim, out, head_stride);
    default:
      return contract_run<4, Dim, Rest, Element>(arena, begin, offset, packed, dim, out, head_stride);
  }
}

// Of `left` heads those of the next pass: as few passes as can be, and no single head where that can be helped, since a
// sum waits for itself.
HWY_INLINE std::int64_t heads_at_once(std::int64_t left) { return left == 5 || left == 6 ? 3 : HWY_MIN(left, 4); }

template <int Dim, bool Rest, class Element>
void contract_all(const Arena& arena, const SummaryContraction& shape, std::span<const SummaryRow> rows) {
  const std::int64_t head_floats = steps_of(arena.storage, shape.dim) * step_of(arena.storage);
  // The first candidates are asked for at once, the others as the loop goes.
  const std::int64_t vector_bytes = shape.dim * static_cast<std::int64_t>(sizeof(Element));
  for (std::int64_t p = 0; p < HWY_MIN(kAhead, arena.available); ++p) {
    for (const SummaryRow& row : rows) {
      const Element* page = static_cast<const Element*>(arena.base) + row.offset + arena.pages[p] * arena.page_stride;
      for (std::int64_t byte = 0; byte < vector_bytes; byte += kLine)
        prefetch(reinterpret_cast<const char*>(page) + byte);
    }
  }
  for (std::int64_t begin = 0; begin < (arena.count + kLanes - 1) / kLanes * kLanes; begin += kWidth) {
    for (const SummaryRow& row : rows) {
      for (std::int64_t v = 0; v < shape.vectors; ++v) {
        for (std::int64_t h = 0, count; h < shape.heads; h += count) {
          count = heads_at_once(shape.heads - h);
          contract_heads<Dim, Rest, Element>(
              count, arena, begin, row.offset + v * shape.vector_step, row.packed + h * head_floats, shape.dim,
              row.out + h * shape.head_stride + v * shape.vector_stride + begin, shape.head_stride);
        }
      }
    }
  }
}

void run_contract_summary(const Arena& arena, const SummaryContraction& shape, std::span<const SummaryRow> rows) {
  const std::int64_t dim = shape.dim, rest = dim % step_of(arena.storage);
  if (arena.storage == Storage::f32)
    return rest == 0 ? contract_all<0, false, float>(arena, shape, rows)
                     : contract_all<0, true, float>(arena, shape, rows);
  if (dim == 32) return contract_all<32, false, std::uint16_t>(arena, shape, rows);
  if (dim == 64) return contract_all<64, false, std::uint16_t>(arena, shape, rows);
  if (dim == 128) return contract_all<128, false, std::uint16_t>(arena, shape, rows);
  return rest == 0 ? contract_all<0, false, std::uint16_t>(arena, shape, rows)
                   : contract_all<0, true, std::uint16_t>(arena, shape, rows);
}

#endif

}  // namespace vortex::kernels::tile::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace vortex::kernels::tile {

HWY_EXPORT(run_pack);
HWY_EXPORT(run_contract_summary);

std::int64_t packed_floats(std::int64_t heads, std::int64_t dim) { return heads * ((dim + 31) / 32 * 32); }

void pack_queries(const float* q, std::int64_t heads, std::int64_t dim, Storage storage, float* packed) {
  HWY_DYNAMIC_DISPATCH(run_pack)(q, heads, dim, storage, packed);
}

void contract_summary(const Arena& arena, const SummaryContraction& shape, std::span<const SummaryRow> rows) {
  if (arena.count <= 0) return;
  HWY_DYNAMIC_DISPATCH(run_contract_summary)(arena, shape, rows);
}

}  // namespace vortex::kernels::tile
#endif
