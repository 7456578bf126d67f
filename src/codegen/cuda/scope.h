// Straight-line device code for single elements of values: `const float v4 = v1 * v3;`, each value once a scope. Knows
// how sources are read and how elementwise and shape ops print; loops and storage are the caller's.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "compiler/plan.h"
#include "ir/op.h"

namespace vortex::codegen {

// The index of an element along each axis, as device code: {"head": "i_head"}.
using Index = std::map<std::string, std::string>;

// How one element of a value is read when it is not computed here: from a source or from storage. "" when it is
// computed.
using Read = std::function<std::string(ir::ValueId, const Index&)>;

class Scope {
 public:
  Scope(const compiler::Plan& plan, const Read& read, std::string indent)
      : plan_(plan), read_(read), indent_(std::move(indent)) {}

  // Adds the statements that make the element and returns its name.
  std::string element(ir::ValueId, const Index&);
  const std::string& statements() const { return statements_; }

 private:
  struct Pending;
  std::string begin(ir::ValueId, const Index&, std::vector<Pending>& waiting);
  std::string define(ir::ValueId, const std::string& expression);
  std::string named(const std::string& index);

  const compiler::Plan& plan_;
  const Read& read_;
  std::string indent_, statements_;
  std::map<std::string, std::string> names_;    // value and index → name
  std::map<std::string, std::string> indices_;  // long index → name
  std::map<ir::ValueId, int> versions_;
};

// "1.5f", "infinity()": a number as float32 in device code.
std::string print_float(double);
// Size of an axis of the plan's program under its geometry.
std::int64_t extent_of(const compiler::Plan&, const ir::Axis&);
// Elements of one instance of a value.
std::int64_t elements_of(const compiler::Plan&, const ir::Type&);
// Row-major position in one instance of a value: "i_head * 64 + i_dim".
std::string offset_of(const compiler::Plan&, const ir::Type&, const Index&);
// What values of a domain run over, as device code: how many there are, the index in the sequence of the first, and the
// tokens of one.
std::string count_of(const compiler::Plan&, const ir::Domain&);
std::string first_of(const compiler::Plan&, const ir::Domain&);
std::int64_t tokens_of(const compiler::Plan&, const ir::Domain&);
// The set whose pages a domain of the kind in_set runs over.
ir::ValueId set_of(const compiler::Plan&, const ir::Domain&);
// A name as it may stand in a comment: whatever would end the line is not part of it.
std::string one_line(std::string name);
// The op's CUDA text with operands and attributes in place.
std::string fill_in(const ir::Node&, const std::vector<std::string>& operands, std::string (*print)(double));
// UserError: the op has no CUDA implementation.
[[noreturn]] void fail_without_cuda(const compiler::Plan&, const ir::Node&);

}  // namespace vortex::codegen
