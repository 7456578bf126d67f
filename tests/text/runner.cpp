// Runs .test files: text_runner [--update] FILE_OR_FOLDER... --update writes what came in place of what was expected,
// to be read before it is committed.
#include "runner.h"

#include <vortex/error.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <vector>

namespace vortex::text_tests {

std::string argument(const std::string& arguments, const std::string& key, const std::string& fallback) {
  std::istringstream words(arguments);
  for (std::string word; words >> word;)
    if (word.rfind(key + "=", 0) == 0) return word.substr(key.size() + 1);
  return fallback;
}

namespace {

// One test file: its lines, rewritten as checks run.
class File {
 public:
  File(std::string path, const std::map<std::string, Check>& checks) : path_(std::move(path)), checks_(checks) {
    std::ifstream in(path_);
    for (std::string line; std::getline(in, line);) lines_.push_back(line);
  }

  // Returns the number of failed checks and prints each.
  int run(bool update) {
    std::string title, program;
    for (std::size_t i = 0; i < lines_.size();) {
      const std::string line = lines_[i++];
      out_ += line + "\n";
      if (line.rfind("=== ", 0) == 0) {
        title = line.substr(4);
        program = header(block(i));
        ++cases_;
      } else if (line.rfind("--- ", 0) == 0) {
        std::size_t space = line.find(' ', 4);
        std::string name = line.substr(4, space == std::string::npos ? space : space - 4);
        std::string arguments = space == std::string::npos ? "" : line.substr(space + 1);
        std::size_t at = i;
        std::string expected = block(i, false);
        std::string came = outcome(name, program, arguments, expected);
        out_ += came + (i < lines_.size() ? "\n" : "");
        if (came != expected) {
          ++failures_;
          std::printf("%s:%zu: %s\n--- %s: expected\n%s--- came\n%s\n", path_.c_str(), at, title.c_str(), name.c_str(),
                      expected.c_str(), came.c_str());
        }
      }
    }
    if (update && failures_ > 0) std::ofstream(path_) << out_;
    std::printf("%s: %d cases, %d failures\n", path_.c_str(), cases_, failures_);
    return cases_ == 0 ? 1 : failures_;
  }

 private:
  // Lines up to the next === or ---, without the blank lines at their end.
  std::string block(std::size_t& i, bool echo = true) {
    std::string text, blank;
    for (; i < lines_.size() && lines_[i].rfind("=== ", 0) != 0 && lines_[i].rfind("--- ", 0) != 0; ++i) {
      if (echo) out_ += lines_[i] + "\n";
      if (lines_[i].empty()) {
        blank += "\n";
        continue;
      }
      text += blank + lines_[i] + "\n";
      blank.clear();
    }
    return text;
  }

  static std::string header(const std::string& program) {
    if (program.rfind("vortex_ir", 0) == 0 || program.rfind("{", 0) == 0) return program;  // text or JSON
    return "vortex_ir 1\nflow \"test\"\nconfig budget=4\n" + program;
  }

  std::string outcome(const std::string& name, const std::string& program, const std::string& arguments,
                      const std::string& expected) const {
    auto check = checks_.find(name);
    if (check == checks_.end()) return "no check is called " + name + "\n";
    std::string text;
    try {
      text = check->second(program, arguments, expected);
    } catch (const Error& error) {
      text = error.what();
    }
    while (text.ends_with("\n")) text.pop_back();
    return text + "\n";
  }

  std::string path_, out_;
  const std::map<std::string, Check>& checks_;
  std::vector<std::string> lines_;
  int cases_ = 0, failures_ = 0;
};

std::vector<std::string> files_of(const std::string& path) {
  std::vector<std::string> files;
  if (!std::filesystem::is_directory(path)) return {path};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
    if (entry.path().extension() == ".test") files.push_back(entry.path().string());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace
}  // namespace vortex::text_tests

int main(int count, char** arguments) {
  using namespace vortex::text_tests;
  std::map<std::string, Check> checks;
  add_ir_checks(checks);
  add_compiler_checks(checks);
  add_cuda_checks(checks);
  bool update = false;
  int failures = 0, files = 0;
  for (int i = 1; i < count; ++i) {
    if (std::string(arguments[i]) == "--update") {
      update = true;
      continue;
    }
    for (const std::string& path : files_of(arguments[i])) {
      failures += File(path, checks).run(update);
      ++files;
    }
  }
  if (files == 0) std::printf("no .test files\n");
  return failures > 0 || files == 0 ? 1 : 0;
}
