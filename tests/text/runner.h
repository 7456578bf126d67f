// The text tests: programs in; text, results or errors out. A .test file is a list of cases:
//
//   === what the case shows
//   the program (without a first line "vortex_ir" it gets a plain header)
//   --- CHECK arguments
//   what is expected
//
// A check turns the program and its arguments into text; errors of the user become text as well. A room adds checks by
// listing them in checks(), one file a room.
#pragma once

#include <functional>
#include <map>
#include <string>

namespace vortex::text_tests {

// The whole text of the case's program, the words after the check's name, and the expected text (some checks read it).
using Check =
    std::function<std::string(const std::string& program, const std::string& arguments, const std::string& expected)>;

void add_ir_checks(std::map<std::string, Check>& checks);
void add_compiler_checks(std::map<std::string, Check>& checks);
void add_cuda_checks(std::map<std::string, Check>& checks);

// "--- scores q=1,2": the value of a key, or the fallback.
std::string argument(const std::string& arguments, const std::string& key, const std::string& fallback);

}  // namespace vortex::text_tests
