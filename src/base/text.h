// Text helpers for messages and printers. Standard library only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace vortex {

// The shortest decimal text that reads back as the same double ("0.1", "1e-06", "inf").
std::string print_number(double value);

namespace detail {
inline void append(std::string& out, std::string_view text) { out += text; }
inline void append(std::string& out, char letter) { out += letter; }
template <class T>
concept Number = std::is_arithmetic_v<T> && !std::is_same_v<T, char>;
template <Number T>
void append(std::string& out, T value) {
  if constexpr (std::is_same_v<T, bool>)
    out += value ? "true" : "false";
  else if constexpr (std::is_integral_v<T>)
    out += std::to_string(value);
  else
    out += print_number(static_cast<double>(value));
}
}  // namespace detail

// concat("page ", 3, " of ", 8) == "page 3 of 8"
template <class... Parts>
std::string concat(const Parts&... parts) {
  std::string out;
  (detail::append(out, parts), ...);
  return out;
}

std::string join(std::span<const std::string> parts, std::string_view separator);

// The known name nearest to `name` by edit distance, or "" when none is near (more than a third of its letters differ).
std::string nearest_name(std::string_view name, std::span<const std::string> known);

// FNV-1a over bytes, for cache keys and canonical hashes; not for security.
class Hash {
 public:
  void add(std::string_view bytes);
  void add(std::uint64_t value);
  std::uint64_t value() const { return state_; }
  std::string hex() const;  // 16 digits

 private:
  std::uint64_t state_ = 0xcbf29ce484222325ULL;
};

}  // namespace vortex
