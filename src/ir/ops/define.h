// Shared parts of op definitions. An op's file holds one function `OpDef define_NAME()`, listed in table.cpp.
#pragma once

#include <vortex/error.h>

#include <cmath>
#include <limits>

#include "base/text.h"
#include "ir/interpret.h"
#include "ir/op.h"

namespace vortex::ir {

using Operands = std::span<const double>;

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Type rules. Elementwise and contraction results have the axes of all inputs and the widest domain (layer < row <
// page).
Type infer_elementwise(const InferContext&);
Type infer_reduction(const InferContext&);  // the axis "page" turns @page into @row
Type infer_along(const InferContext&);
Type infer_selection(const InferContext&);
Type infer_set(const InferContext&);  // elementwise: a set, by one number a page and numbers of the row, or by sets

// The domain that all operands with instances share, or the widest of the others; UserError when they do not meet.
Domain meet(std::span<const Type> operands);

void choose_top_k(std::span<const double> values, double amount, const Attributes&, std::span<double> out);

// The axis named by attribute `name` of input 0; UserError with the nearest name when it has no such axis.
const Axis& required_axis(const InferContext&, const Type& type, const std::string& name);
// Replaces the axes of `type`; UserError when a name appears twice or is no axis name.
Type with_axes(Type type, std::vector<Axis> axes);
// Position of a named axis in a type that has it.
std::size_t axis_index(const Type&, std::string_view name);

// Frames of definitions: what all ops of a kind share.
OpDef elementwise_op(std::string name, int arity, std::string doc);  // tile primitive of the same name
OpDef reduction_op(std::string name, std::string doc);               // attribute "axis"
OpDef along_op(std::string name, std::string doc);                   // attribute "axis"
OpDef selection_op(std::string name, std::string doc);               // inputs: one number a page, an amount of the row
// Sources of groups: the attribute "size", and the domain it gives.
inline constexpr std::int64_t kMaxGroup = 1024;  // pages
std::vector<AttributeDef> group_attributes();
Domain group_domain(const InferContext&);
OpDef source_op(std::string name, std::string doc, Phase);  // f32[] @layer unless the file says otherwise

}  // namespace vortex::ir
