// The seam between the linears' driver and the kernels of one instruction set: the memory layouts and one table of
// functions per instruction set. Included by files with special compile flags: only plain types, nothing from the
// library.
//
// Weights lie in panels of 16 rows (the last one padded with zeros), lane = row:
//   q8_0, per block of 32 columns: 8 × [16 rows][4 columns] uint8 (weight + 128), then [16] float16 d
//   q4_1, per block of 32 columns: 4 × [16 rows][4 columns] uint8 (column 4g + j in the low nibble, 16 + 4g + j in the
//         high one), then [16] float16 d, [16] float16 m
//   f32, f16, bf16, per column: [16 rows]
// Activations for integer weights come in groups of `width` tokens, per block of 32 columns:
//   [width][32] int8 q, [width] float scale, [width] float scale · Σq, [width] int32 −128 · Σq
//
// The value of an output is fixed by the weights' format and width alone. Integers: an exact int32 sum s per block,
// then, from the first block to the last, acc = fma(s, d · scale, acc) and for q4_1 acc = fma(m, scale · Σq, acc).
// Floats: two chains, even and odd columns, each fma(w, x, chain) in ascending order, then even + odd. The bias is
// added last.
#pragma once

#include <cstdint>

namespace vortex::kernels::detail {

inline constexpr std::int64_t kPanelRows = 16;
inline constexpr std::int64_t kBlock = 32;
inline constexpr std::int64_t kGroup = 8;  // the largest width of a group of tokens
inline constexpr std::int64_t kQ8BlockBytes = 544;
inline constexpr std::int64_t kQ4BlockBytes = 320;
inline constexpr std::int64_t kTokenBlockBytes = 44;

// Some panels times one group of tokens.
struct PanelCall {
  const std::uint8_t* panel;  // [panels] of panel_bytes
  std::int64_t panels, panel_bytes;
  std::int64_t columns;
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
                   std::uint8_t* group);
  void (*q8_0)(const PanelCall&);
  void (*q4_1)(const PanelCall&);
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
