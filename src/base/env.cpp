#include "base/env.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>

#include "base/check.h"
#include "base/text.h"

namespace vortex {

namespace {

constexpr std::array kTable = {
    EnvVariable{"VORTEX_CACHE", "~/.cache/vortex-attention", "folder of fetched models and compiled kernels"},
    EnvVariable{"VORTEX_DEBUG", "0", "debug ladder: 1 names and times, 2 IR after passes, 3 generated source"},
    EnvVariable{"VORTEX_ISA", "auto",
                "instruction set of the CPU kernels; auto takes the best that the processor runs"},
    EnvVariable{"VORTEX_LEDGER", "~/.local/share/vortex-attention/ledger.sqlite",
                "file that everything measured is written to"},
    EnvVariable{"VORTEX_NVRTC", "",
                "file of the CUDA run-time compiler, libnvrtc.so; unset: looked for in the usual places"},
    EnvVariable{"VORTEX_THREADS", "0", "threads of a pool that is not told a number; 0 for all cores"},
};

std::vector<std::string> table_names() {
  std::vector<std::string> names;
  for (const EnvVariable& variable : kTable) names.emplace_back(variable.name);
  return names;
}

}  // namespace

std::span<const EnvVariable> env_table() { return kTable; }

std::string env(std::string_view name) {
  auto row = std::ranges::find_if(kTable, [&](const EnvVariable& variable) { return name == variable.name; });
  VORTEX_CHECK(row != kTable.end(), name, " is not in the table of environment variables");
  const char* value = std::getenv(row->name);
  return value && *value ? value : row->fallback;
}

std::int64_t env_number(std::string_view name, std::int64_t least, std::int64_t most) {
  std::string text = env(name);
  std::int64_t value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most)
    throw UserError(std::string(name), concat("a whole number from ", least, " to ", most), concat("got '", text, "'"),
                    "change or unset the environment variable");
  return value;
}

std::vector<std::string> unknown_env() {
  std::vector<std::string> lines, names = table_names();
  for (char** entry = environ; entry && *entry; ++entry) {
    std::string_view text = *entry;
    std::string_view name = text.substr(0, text.find('='));
    if (!name.starts_with("VORTEX_") || std::ranges::find(names, name) != names.end()) continue;
    std::string near = nearest_name(name, names);
    lines.push_back(near.empty() ? concat("the environment variable ", name, " is unknown and has no effect")
                                 : concat("the environment variable ", name,
                                          " is unknown and has no effect; did you mean ", near, "?"));
  }
  return lines;
}

}  // namespace vortex
