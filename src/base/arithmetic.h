// Whole numbers: division upwards, and bits that depend on all bits of another number.
#pragma once

#include <cstdint>

namespace vortex {

// How many pieces of b hold a; a is not negative, b positive.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// The finisher of splitmix64: a bijection whose result looks random. Numbers in order are told apart by adding a
// multiple of kMixStep first.
constexpr std::uint64_t kMixStep = 0x9e3779b97f4a7c15ULL;
constexpr std::uint64_t mix_bits(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  return bits ^ (bits >> 31);
}

}  // namespace vortex
