// Extents, axes and how types print.
#include "ir/type.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "base/text.h"

namespace vortex::ir {

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::i32:
      return "i32";
    case DType::set:
      return "set";
  }
  return "?";
}

namespace {

using Symbol = Extent::Symbol;

const char* name_of(Symbol symbol) {
  switch (symbol) {
    case Symbol::one:
      return "1";
    case Symbol::token:
      return "token";
    case Symbol::dim:
      return "dim";
    case Symbol::head:
      return "head";
    case Symbol::value_dim:
      return "value_dim";
    case Symbol::rope_dim:
      return "rope_dim";
  }
  return "?";
}

std::optional<Extent> reduced(Symbol symbol, std::int64_t numerator, std::int64_t denominator) {
  std::int64_t common = std::gcd(numerator, denominator);
  Extent out{symbol, numerator / common, denominator / common};
  if (out.numerator < 1 || out.numerator > kMaxExtent || out.denominator > kMaxExtent) return std::nullopt;
  if (symbol == Symbol::one && out.denominator != 1) return std::nullopt;
  return out;
}

int rank(std::string_view name) { return name == "head" ? 0 : name == "token" ? 1 : name == "dim" ? 3 : 2; }

}  // namespace

Extent constant_extent(std::int64_t size) { return {Symbol::one, size, 1}; }

std::optional<Extent> multiply(const Extent& a, const Extent& b) {
  if (a.symbol != Symbol::one && b.symbol != Symbol::one) return std::nullopt;
  return reduced(a.symbol == Symbol::one ? b.symbol : a.symbol, a.numerator * b.numerator,
                 a.denominator * b.denominator);
}

std::optional<Extent> divide(const Extent& a, std::int64_t by) {
  if (by < 1 || by > kMaxExtent) return std::nullopt;
  return reduced(a.symbol, a.numerator, a.denominator * by);
}

std::optional<std::int64_t> bind(const Extent& extent, const Geometry& geometry) {
  std::int64_t size = 1;
  switch (extent.symbol) {
    case Symbol::one:
      break;
    case Symbol::token:
      size = geometry.page_size;
      break;
    case Symbol::dim:
      size = geometry.head_dim;
      break;
    case Symbol::head:
      size = geometry.group;
      break;
    case Symbol::value_dim:
      size = geometry.value_channels();
      break;
    case Symbol::rope_dim:
      size = geometry.rope_channels();
      break;
  }
  size *= extent.numerator;
  if (size % extent.denominator != 0) return std::nullopt;
  return size / extent.denominator;
}

bool axis_before(std::string_view a, std::string_view b) { return rank(a) != rank(b) ? rank(a) < rank(b) : a < b; }

void sort_axes(Type& type) {
  std::sort(type.axes.begin(), type.axes.end(),
            [](const Axis& a, const Axis& b) { return axis_before(a.name, b.name); });
}

const Axis* find_axis(const Type& type, std::string_view name) {
  for (const Axis& axis : type.axes)
    if (axis.name == name) return &axis;
  return nullptr;
}

bool is_axis_name(std::string_view name) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
  if (name.empty() || name.size() > 64 || !letter(name[0]) || name == "page") return false;
  return std::all_of(name.begin(), name.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

std::string print(const Extent& extent) {
  if (extent.symbol == Symbol::one) return std::to_string(extent.numerator);
  std::string out = extent.numerator == 1 ? "" : concat(extent.numerator, "*");
  out += name_of(extent.symbol);
  if (extent.denominator != 1) out += concat("/", extent.denominator);
  return out;
}

std::string print(const Domain& domain) {
  switch (domain.kind) {
    case Domain::Kind::layer:
      return "layer";
    case Domain::Kind::row:
      return "row";
    case Domain::Kind::page:
      return "page";
    case Domain::Kind::group:
      return concat("group(", domain.pages, ")");
    case Domain::Kind::in_set:
      return concat("in(%", domain.set, ")");
  }
  return "?";
}

std::string print(const Type& type) {
  std::vector<std::string> axes;
  for (const Axis& axis : type.axes) {
    std::string size = print(axis.extent);
    axes.push_back(size == axis.name ? size : axis.name + "=" + size);
  }
  return concat(name_of(type.dtype), "[", join(axes, ", "), "] @", print(type.domain));
}

}  // namespace vortex::ir
