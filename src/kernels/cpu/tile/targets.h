// The instruction sets that tile files are compiled for. Included before any header of Highway. Vectors have at most 16
// floats: sets with vectors of unknown length are left out, and so are those between the baseline and AVX2.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
