// The seam between the linears' driver and the kernels of one instruction set: the memory layouts and one table of
// functions per instruction set. Included by files with special compile flags: only plain types, nothing from the
// library.
//
// Weights lie in panels of 16 rows (the last one padded with zeros), lane = row. Floats, per column: [16 rows].
// Integers of 4, 5, 6 or 8 bits, per block of 32 columns (two halves of 16, each four groups of four columns):
//   4, 5, 6 bits: 4 × [16 rows][4 columns] bytes, group g of the first half in the low nibbles and of the second in the
//                 high ones; then what is above the nibbles:
//                 5 bits: [16 rows][4 columns] bytes, bit 4h + g belongs to group g of half h
//                 6 bits: 2 × [16 rows][4 columns] bytes, one per half, bits 2g and 2g + 1 belong to group g
//   8 bits:       8 × [16 rows][4 columns] bytes
//   and the scales: float16 a[16], float16 b[16] where there are minima; in super-blocks (256 columns) instead
//                 int8 a[16], int8 b[16] where there are minima; 6 bits: int8 a[2][16], one per half.
// A super-block begins with float16 a[16] (and b[16]), which multiply those of its eight blocks.
// A weight is a · (stored − zero) + b.
//
// Activations for integer weights come in groups of `width` tokens, per block of 32 columns:
//   [width][32] int8 q; with two terms [width][32] int8 r; float [width] scale of either half; [width] float sum of the
//   block's values; int32 [width] −zero · Σ of either half
// A value is scale · q, or with two terms scale · (254 q + r); Σ is of q, or of 254 q + r.
//
// The value of an output is fixed by the weights' format, the width and the number of terms alone. Integers: exact
// int32 sums s0, s1 of the two halves, then, from the first block to the last,
//   acc = fma(a, fma(s1, scale1, s0 · scale0), acc), 6 bits: acc = fma(a0, s0 · scale0, acc), acc = fma(a1, s1 ·
//   scale1, acc); where there are minima acc = fma(b, sum, acc).
// (With two terms and weights of 8 bits a sum may exceed 2^24; its conversion to float rounds to nearest even.)
// Floats: two chains, even and odd columns, each fma(w, x, chain) in ascending order, then even + odd. The bias is
// added last.
#pragma once

#include <cstdint>

namespace vortex::kernels::detail {

inline constexpr std::int64_t kPanelRows = 16;
inline constexpr std::int64_t kBlock = 32;
inline constexpr std::int64_t kSuper = 8;  // blocks of a super-block
inline constexpr std::int64_t kGroup = 8;  // the largest width of a group of tokens

// Bytes of one token's block of activations, by the number of terms.
inline constexpr std::int64_t kTokenBlockBytes[3] = {0, kBlock + 20, 2 * kBlock + 20};

// How a panel of integers is laid out.
struct PanelLayout {
  int bits = 0;  // 4, 5, 6 or 8; 0: floats
  int zero = 0;  // what is stored for a weight of zero (before the minimum is added); 0 exactly where there are minima
  bool minima = false;
  bool super = false;
  std::int64_t block_bytes = 0, head_bytes = 0;  // of a block with its scales; of what a super-block begins with
};

// Some panels times one group of tokens.
struct PanelCall {
  const std::uint8_t* panel;  // [panels] of panel_bytes
  std::int64_t panels, panel_bytes;
  std::int64_t columns;
  PanelLayout layout;
  int terms;              // 1 or 2: of the quantised group
  const void* x;          // quantised group; float weights: float [tokens, columns]
  std::int64_t x_stride;  // float weights: floats from token to token
  std::int64_t width;     // 1, 2, 4 or 8: of the quantised group
  std::int64_t tokens;    // [1, width] (float weights: [1, 8])
  std::int64_t rows;      // outputs of these panels: the last panel may be partial
  const float* bias;      // [rows] or null
  float* y;               // [tokens, rows]
  std::int64_t y_stride;
};

struct LinearKernels {
  // Quantises x [tokens, 32 · blocks] into one group; tokens in [tokens, width) are zero.
  void (*quantize)(const float* x, std::int64_t x_stride, std::int64_t tokens, std::int64_t width, std::int64_t blocks,
                   int terms, int zero, std::uint8_t* group);
  void (*integers)(const PanelCall&);
  void (*f32)(const PanelCall&);
  void (*f16)(const PanelCall&);
  void (*bf16)(const PanelCall&);
};

extern const LinearKernels kPortableKernels;
#if defined(__x86_64__)
extern const LinearKernels kAvx2Kernels, kAvxVnniKernels, kAvx512Kernels;
#elif defined(__aarch64__)
extern const LinearKernels kNeonKernels, kNeonDotKernels;
#endif

}  // namespace vortex::kernels::detail
