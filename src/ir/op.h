// What an op is: one OpDef per op, each in its own file below ops/, listed in ops/table.cpp. Passes ask the op; they keep
// no lists of ops.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/program.h"

namespace vortex::ir {

// How an op treats its axes; this is what scheduling needs to know.
enum class OpKind : std::uint8_t {
  source,       // no inputs: q, page_k, page_v, page_index, constants, summary fields
  elementwise,  // each output element from the same-named elements of its inputs
  reduction,    // one axis (attribute "axis") disappears; the axis "page" makes a @row value of a @page value
  along,        // same shape, every element depends on a whole axis: softmax, normalize, cumsum
  contraction,  // Σ over a shared axis of a product of two inputs
  shape,        // split, merge, rename, slice: no arithmetic
};

enum class AttributeKind : std::uint8_t { integer, number, text };
struct AttributeDef {
  std::string name;
  AttributeKind kind;
  bool required = true;
  Attribute fallback = std::int64_t{0};
  std::string doc;
};

// A dense double-precision tensor of the interpreter, over the type's axes with all symbols bound, `page` axis first for
// @page values of the score phase.
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<double> data;
};

struct InferContext {
  std::span<const Type> inputs;
  const std::map<std::string, Attribute>& attributes;
};

struct OpDef {
  std::string name;   // "maximum"; also its name in Python and in the text form
  std::string doc;    // what it computes, with NaN and edge cases; the reference page is made of these
  OpKind kind;
  int arity;          // number of inputs
  std::vector<AttributeDef> attributes;
  bool commutative = false;
  // Increasing in its only value input, so it may be dropped between a score and its top-k: exp, tanh, scaling by c > 0.
  bool order_preserving = false;
  // Result type. Throws UserError with location "" (the builder and the verifier add the flow's file and line).
  Type (*infer)(const InferContext&);
  // elementwise only: the definition of the op on scalars in double precision.
  double (*scalar)(std::span<const double> inputs, const std::map<std::string, Attribute>& attributes) = nullptr;
  // reductions and `along`: the definition along one axis; `values` is the axis, `out` has one element or as many.
  void (*axis)(std::span<const double> values, std::span<double> out, const std::map<std::string, Attribute>& attributes) = nullptr;
  // elementwise only: the same in CUDA C++ on float, "$0" and "$1" for the operands, "$name" for an attribute.
  std::string cuda;
  // elementwise, reduction, along: the tile primitive of the CPU backend (kernels/cpu/tile), by name.
  std::string tile;
};

std::span<const OpDef* const> all_ops();
const OpDef* find_op(std::string_view name);                   // null when there is none
const OpDef& op_named(std::string_view name);                  // UserError with the nearest name when there is none

// Appends a node after checking arity and attributes and inferring its type; UserError carries `location`.
ValueId append(Program&, const OpDef&, std::vector<ValueId> inputs, std::map<std::string, Attribute> attributes,
               SourceLocation location);

}  // namespace vortex::ir
