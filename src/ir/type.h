// Types of the language: what a value is, metadata only. Refuses nothing itself; the verifier does.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vortex::ir {

enum class DType : std::uint8_t { f32, bf16, i32 };
const char* name_of(DType);

// The size of an axis. A flow is traced before the model is known, so a size may be a symbol that `bind` fills in:
// numerator · symbol / denominator. A constant has the symbol `one`.
struct Extent {
  enum class Symbol : std::uint8_t { one, token, dim, head };
  Symbol symbol = Symbol::one;
  std::int64_t numerator = 1;
  std::int64_t denominator = 1;

  bool operator==(const Extent&) const = default;
};

struct Axis {
  std::string name;
  Extent extent;

  bool operator==(const Axis&) const = default;
};

// Where one instance of a value exists: once a layer (parameters), once a row (one sequence × KV head), once a page of a
// row, once a group of n pages, or once a page of the set S. `page` holds `layer` and `row` values by broadcasting.
struct Domain {
  enum class Kind : std::uint8_t { layer, row, page, group, in_set };
  Kind kind = Kind::row;
  std::int64_t parameter = 0;  // group: n; in_set: the value that defines the set

  bool operator==(const Domain&) const = default;
};

struct Type {
  DType dtype = DType::f32;
  Domain domain;
  std::vector<Axis> axes;  // in the order they print; values broadcast and contract by name, so order carries no meaning

  bool operator==(const Type&) const = default;
};

std::string print(const Extent&);  // "token", "dim/2", "16"
std::string print(const Domain&);  // "page", "group(8)"
std::string print(const Type&);    // "f32[head, dim] @row"

}  // namespace vortex::ir
