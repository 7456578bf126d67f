// What the text and JSON readers and writers share.
#pragma once

#include <string>
#include <string_view>

#include "ir/program.h"

namespace vortex::ir {

inline constexpr std::size_t kMaxText = 1 << 20;     // bytes of a program in text or JSON
inline constexpr std::size_t kMaxString = 16 << 10;  // bytes of one string

std::string quoted(std::string_view);
std::string attribute_text(const Attribute&);  // "3", "0.5", "\"dim\""
// The file most nodes come from: the one of the first node that has a location.
std::string main_source(const Program&);
// Valid UTF-8 without control characters other than newline and tab.
bool is_clean_text(std::string_view);

}  // namespace vortex::ir
