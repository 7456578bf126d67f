// random: a pure hash of two numbers, the same bits on every backend.
#include <bit>

#include "ir/ops/define.h"

namespace vortex::ir {

namespace {

std::uint32_t mixed(std::uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// Adding +0 makes −0 and 0 the same operand.
std::uint32_t bits_of(double x) { return std::bit_cast<std::uint32_t>(static_cast<float>(x) + 0.0f); }

double random_of(double a, double b) {
  std::uint32_t hash = mixed(mixed(bits_of(a) + 0x9e3779b9u) ^ (bits_of(b) + 0x85ebca6bu));
  return static_cast<double>(hash >> 8) * 0x1p-24;
}

}  // namespace

OpDef define_random() {
  OpDef op = elementwise_op(
      "random", 2,
      "A number in [0, 1) that depends on nothing but a and b: equal operands give equal numbers. With h(x): "
      "x = (x ^ x>>16)·0x7feb352d, x = (x ^ x>>15)·0x846ca68b, x ^ x>>16 on 32 bits, and the bits of the "
      "operands as float32 (−0 as 0), it is (h(h(a + 0x9e3779b9) ^ (b + 0x85ebca6b)) >> 8) / 2^24.");
  op.nonnegative = true;
  op.scalar = [](Operands x, const Attributes&) { return random_of(x[0], x[1]); };
  op.cuda = "vortex_random($0, $1)";
  return op;
}

}  // namespace vortex::ir
