// Checks of the ir room.
//   text                          parse, print
//   json, read_json               to JSON, from JSON to text
//   verify                        "ok" or the error
//   fits token= dim= head= value=0  "ok", or why the flow does not fit a model
//   canonical                     the canonical form, values only
//   same, different               the expected text is another program: do the canonical hashes agree?
//   scores token= dim= head= q=s1|s2|... k=p1|p2|...   the interpreter: summaries of the pages, then for the query of
//                                 each step their scores (page i has index i), or their set, and the states after it
//   select pages= scores=         the page list
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <vector>

#include "base/text.h"
#include "ir/interpret.h"
#include "runner.h"

namespace vortex::text_tests {

namespace {

using namespace vortex::ir;

std::vector<std::string> pieces(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string piece; std::getline(in, piece, separator);) out.push_back(piece);
  return out;
}

std::vector<double> numbers(const std::string& text) {
  std::vector<double> out;
  for (const std::string& piece : pieces(text, ',')) out.push_back(std::strtod(piece.c_str(), nullptr));
  return out;
}

std::string rounded(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.6g", value);
  return buffer;
}

// Without the lines before the first value.
std::string values_of(const Program& program) {
  std::string text = print(program);
  std::size_t begin = text.find("\n%");
  return begin == std::string::npos ? "(no values)\n" : text.substr(begin + 1);
}

std::string scores(const std::string& text, const std::string& arguments, const std::string&) {
  Program program = parse(text);
  verify(program);
  auto integer = [&](const char* key, const char* fallback) {
    return std::strtoll(argument(arguments, key, fallback).c_str(), nullptr, 10);
  };
  Environment environment{.geometry = {integer("token", "2"), integer("dim", "2"), integer("head", "1")},
                          .tokens = integer("tokens", "0"),
                          .step = integer("step", "0"),
                          .layer = integer("layer", "0"),
                          .layers = integer("layers", "1")};
  const Geometry& geometry = environment.geometry;
  std::map<std::string, Tensor> summaries;
  std::vector<std::int64_t> indices;
  for (const std::string& page : pieces(argument(arguments, "k", ""), '|')) {
    Tensor k{{geometry.page_size, geometry.head_dim}, numbers(page)};
    for (auto& [name, tensor] : interpret_summaries(program, environment, k, k)) {
      Tensor& all = summaries[name];
      all.data.insert(all.data.end(), tensor.data.begin(), tensor.data.end());
      all.shape = tensor.shape;
    }
    indices.push_back(static_cast<std::int64_t>(indices.size()));
  }
  for (auto& [name, tensor] : summaries)
    tensor.shape.insert(tensor.shape.begin(), static_cast<std::int64_t>(indices.size()));
  std::vector<std::string> lines;
  States states;
  for (const std::string& query : pieces(argument(arguments, "q", ""), '|')) {
    Tensor q{{geometry.group, geometry.head_dim}, numbers(query)};
    auto add_line = [&](std::string begin, const std::vector<double>& values) {
      std::vector<std::string> out;
      if (!begin.empty()) out.push_back(std::move(begin));
      for (double value : values) out.push_back(rounded(value));
      lines.push_back(join(out, " "));
    };
    add_line("", program.selection >= 0 ? interpret_chosen(program, environment, q, summaries, indices, states)
                                        : interpret_scores(program, environment, q, summaries, indices, states));
    states = interpret_states(program, environment, q, summaries, indices, states);
    for (const auto& [name, tensor] : states) add_line(concat("  ", name), tensor.data);
    ++environment.step;
  }
  return join(lines, "\n");
}

std::string select(const std::string& text, const std::string& arguments, const std::string&) {
  Program program = parse(text);
  std::int64_t pages = std::strtoll(argument(arguments, "pages", "0").c_str(), nullptr, 10);
  std::vector<std::string> out;
  for (std::int64_t page : interpret_selection(program.config, pages, candidates_of(program.config, pages),
                                               numbers(argument(arguments, "scores", ""))))
    out.push_back(std::to_string(page));
  return join(out, " ");
}

// The other program stands in the expected text, so it is the outcome when the hashes are as they should be.
std::string compare(const std::string& text, const std::string& expected, bool same) {
  std::string other =
      expected.starts_with("vortex_ir") ? expected : "vortex_ir 1\nflow \"other\"\nconfig budget=4\n" + expected;
  Program a = parse(text), b = parse(other);
  verify(a);
  verify(b);
  if ((canonical_hash(a) == canonical_hash(b)) == same) return expected;
  return concat("canonical forms\n", values_of(canonicalize(a)), "and\n", values_of(canonicalize(b)));
}

}  // namespace

void add_ir_checks(std::map<std::string, Check>& checks) {
  checks["text"] = [](const std::string& text, const std::string&, const std::string&) { return print(parse(text)); };
  checks["values"] = [](const std::string& text, const std::string&, const std::string&) {
    return values_of(parse(text));
  };
  checks["verify"] = [](const std::string& text, const std::string&, const std::string&) {
    verify(parse(text));
    return std::string("ok");
  };
  checks["json"] = [](const std::string& text, const std::string&, const std::string&) { return to_json(parse(text)); };
  checks["read_json"] = [](const std::string& text, const std::string&, const std::string&) {
    return print(from_json(text));
  };
  checks["fits"] = [](const std::string& text, const std::string& arguments, const std::string&) {
    auto integer = [&](const char* key) {
      return std::strtoll(argument(arguments, key, key == std::string("value") ? "0" : "1").c_str(), nullptr, 10);
    };
    verify(parse(text), {integer("token"), integer("dim"), integer("head"), integer("value")});
    return std::string("ok");
  };
  checks["canonical"] = [](const std::string& text, const std::string&, const std::string&) {
    Program program = parse(text);
    verify(program);
    return values_of(canonicalize(program));
  };
  checks["same"] = [](const std::string& text, const std::string&, const std::string& expected) {
    return compare(text, expected, true);
  };
  checks["different"] = [](const std::string& text, const std::string&, const std::string& expected) {
    return compare(text, expected, false);
  };
  checks["scores"] = scores;
  checks["select"] = select;
}

}  // namespace vortex::text_tests
