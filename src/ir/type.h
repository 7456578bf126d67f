// Types of the language: what a value is, metadata only. Refuses nothing itself; the verifier does.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vortex::ir {

// set: pages of a row, chosen or not; no number.
enum class DType : std::uint8_t { f32, bf16, i32, set };
const char* name_of(DType);

// Sizes that a flow is bound to.
struct Geometry {
  std::int64_t page_size = 16;  // tokens a page of the flow
  std::int64_t head_dim = 64;   // channels of q and of a key
  std::int64_t group = 1;       // query heads that share a KV head
  std::int64_t value_dim = 0;   // channels of a value; 0: as many as of a key

  std::int64_t value_channels() const { return value_dim > 0 ? value_dim : head_dim; }
  // The last channels of a key that a value has none of, where a latent holds both; else all.
  std::int64_t rope_channels() const { return value_dim > 0 && value_dim < head_dim ? head_dim - value_dim : head_dim; }
  bool operator==(const Geometry&) const = default;
};

// The size of an axis. A flow is traced before the model is known, so a size may be a symbol that `bind` fills in:
// numerator · symbol / denominator, always reduced. A constant has the symbol `one` and the denominator 1.
struct Extent {
  enum class Symbol : std::uint8_t { one, token, dim, head, value_dim, rope_dim };
  Symbol symbol = Symbol::one;
  std::int64_t numerator = 1;
  std::int64_t denominator = 1;

  bool operator==(const Extent&) const = default;
};

inline constexpr std::int64_t kMaxExtent = 1 << 20;  // of a constant axis, and of a numerator or a denominator

Extent constant_extent(std::int64_t size);
// The product and the quotient; none when they cannot be written as an Extent (dim · head, 16 / 3).
std::optional<Extent> multiply(const Extent&, const Extent&);
std::optional<Extent> divide(const Extent&, std::int64_t by);
// Elements of an axis under a geometry; none when the division leaves a rest.
std::optional<std::int64_t> bind(const Extent&, const Geometry&);

struct Axis {
  std::string name;
  Extent extent;

  bool operator==(const Axis&) const = default;
};

// Where one instance of a value exists: once a layer (parameters, constants), once a row (one sequence × KV head), once
// a page of a row, once a group of n index-aligned pages, or once a page (or group) of a set. The last three hold
// `layer` and `row` values by broadcasting; they meet each other through the ops `confine` and `spread` alone.
struct Domain {
  enum class Kind : std::uint8_t { layer, row, page, group, in_set };
  Kind kind = Kind::row;
  std::int64_t pages = 1;  // of one instance: of a group n; in_set: as the set's own
  std::int64_t set = -1;   // in_set: the value (op `members`) that lists the set

  bool has_instances() const { return kind >= Kind::page; }  // several a row: the axis "page" runs over them
  // What a set of instances is a set of: pages, or groups.
  Domain unit() const { return {pages > 1 ? Kind::group : Kind::page, pages, -1}; }

  bool operator==(const Domain&) const = default;
};

// Axes always stand in one order, that of axis_before: "head", then "token", then other names by alphabet, "dim" last.
// So values that broadcast against each other differ only by absent axes, never by a transpose.
struct Type {
  DType dtype = DType::f32;
  Domain domain;
  std::vector<Axis> axes;

  bool operator==(const Type&) const = default;
};

bool axis_before(std::string_view a, std::string_view b);
void sort_axes(Type&);
const Axis* find_axis(const Type&, std::string_view name);  // null when there is none
bool is_axis_name(std::string_view);                        // [a-z_][a-z0-9_]*, at most 64 letters, not "page"

std::string print(const Extent&);  // "token", "dim/2", "3*token/2", "16"
std::string print(const Domain&);  // "page", "group(8)"
std::string print(const Type&);    // "f32[head, dim] @row"; an axis whose size is not its own symbol: "sub=16"

}  // namespace vortex::ir
