// Runs a fuzz target without a fuzzing compiler: the files of the given folders, then mutations of them, the same for
// the same seed. A text that ends the process is found again by its seed; one that takes long is left in
// fuzz-failure.bin.
//
//   fuzz_ir [--runs N] [--seed S] [FILE or FOLDER...]      likewise the other targets
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using Corpus = std::vector<std::string>;

void read_into(Corpus& corpus, const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    for (const auto& entry : std::filesystem::directory_iterator(path)) read_into(corpus, entry.path());
    return;
  }
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  // A file of text tests holds several programs; each begins with the version.
  for (std::size_t at = text.find("vortex_ir 1"); at != std::string::npos;) {
    const std::size_t next = text.find("vortex_ir 1", at + 1);
    corpus.push_back(text.substr(at, next - at));
    at = next;
  }
  if (!text.empty() && (text[0] == '{' || text.find("vortex_ir 1") == std::string::npos)) corpus.push_back(text);
}

std::string mutated(const Corpus& corpus, std::mt19937_64& random) {
  auto below = [&](std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(random() % bound); };
  const char* words[] = {"-1",         "0",
                         "2147483648", "9223372036854775808",
                         "1e309",      "nan",
                         "inf",        "%0",
                         "%99",        "\"",
                         "axis",       "\"page\"",
                         "\"dim\"",    "score",
                         "select",     "(",
                         "\xff",       "summary",
                         "{",          "[",
                         "\\u0000",    "config budget=",
                         "@row",       "f32[]",
                         ",",          "null",
                         "sum("};
  std::string text = corpus[below(corpus.size())];
  for (std::size_t change = 0, changes = 1 + below(4); change < changes; ++change) {
    const std::size_t at = below(text.size() + 1), length = std::min(below(40), text.size() - at);
    switch (below(6)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(random());
        break;
      case 1:
        text.erase(at, length);
        break;
      case 2:
        text.insert(at, words[below(std::size(words))]);
        break;
      case 3: {  // a piece of another
        const std::string& other = corpus[below(corpus.size())];
        const std::size_t from = below(other.size());
        text.insert(at, other.substr(from, below(200)));
        break;
      }
      case 4:
        text.insert(at, text.substr(at, length));
        break;
      case 5: {  // a line moves
        const std::size_t line = text.find('\n', at);
        if (line == std::string::npos) break;
        const std::size_t end = text.find('\n', line + 1);
        const std::string moved = text.substr(line, end - line);
        text.erase(line, end - line);
        const std::size_t to = text.find('\n', below(text.size()));
        text.insert(to == std::string::npos ? 0 : to, moved);
        break;
      }
    }
    if (text.size() > 1 << 16) text.resize(1 << 16);
  }
  return text;
}

void run(const std::string& text) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
}

}  // namespace

int main(int count, char** arguments) {
  std::uint64_t runs = 10'000, seed = 1;
  Corpus corpus;
  for (int i = 1; i < count; ++i) {
    if (!std::strcmp(arguments[i], "--runs") && i + 1 < count) {
      runs = std::stoull(arguments[++i]);
    } else if (!std::strcmp(arguments[i], "--seed") && i + 1 < count) {
      seed = std::stoull(arguments[++i]);
    } else {
      read_into(corpus, arguments[i]);
    }
  }
  if (corpus.empty()) {
    std::cerr << "usage: " << arguments[0] << " [--runs N] [--seed S] FILE or FOLDER...\n";
    return 2;
  }
  std::sort(corpus.begin(), corpus.end());
  std::cout << corpus.size() << " texts, " << runs << " mutations, seed " << seed << std::endl;
  for (const std::string& text : corpus) run(text);
  std::mt19937_64 random(seed);
  double slowest = 0;
  for (std::uint64_t i = 0; i < runs; ++i) {
    const std::string text = mutated(corpus, random);
    const auto began = std::chrono::steady_clock::now();
    run(text);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    slowest = std::max(slowest, seconds);
    if (seconds > 5) {
      std::ofstream("fuzz-failure.bin", std::ios::binary) << text;
      std::cerr << "a text took " << seconds << " s; it lies in fuzz-failure.bin\n";
      return 1;
    }
  }
  std::cout << "done; the slowest took " << slowest << " s\n";
  return 0;
}
