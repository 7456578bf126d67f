// The VORTEX_* environment variables: one table with name, value when unset and meaning; docs/development.md lists the
// same. Reading a name that is not in the table is a defect of ours; a value that does not fit is the user's error.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vortex {

struct EnvVariable {
  const char* name;
  const char* fallback;  // the value when unset or empty
  const char* meaning;
};

std::span<const EnvVariable> env_table();

// The variable's value, or its fallback.
std::string env(std::string_view name);

// The same as a whole number in [least, most].
std::int64_t env_number(std::string_view name, std::int64_t least, std::int64_t most);

// One line for each variable set to something whose name begins with VORTEX_ and is not in the table.
std::vector<std::string> unknown_env();

}  // namespace vortex
