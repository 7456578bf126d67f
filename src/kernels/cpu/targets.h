// The instruction sets that files of Highway are compiled for. Included before any header of Highway. Vectors lie in
// arrays of at most 16 floats: sets with vectors of unknown length are left out, and so are those between the baseline
// and AVX2, so that x86 without AVX2 runs the scalar form.
#pragma once

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)
