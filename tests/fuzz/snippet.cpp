// What a hostile budget meets on its way in: the reader of snippets, the verifier and the row rule. Anything but a
// UserError or a number of pages ends the process, and so does a snippet that gives other pages when the numbers of the
// sequence are known while it is read (all of it is folded) than when they are values.
#include "ir/snippet.h"

#include <vortex/error.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <map>
#include <optional>
#include <string>

#include "ir/program.h"
#include "ir/rows.h"

namespace {

using namespace vortex;

[[noreturn]] void fail(const char* what, const std::string& text) {
  std::cerr << what << ":\n" << text << "\n";
  std::abort();
}

constexpr std::int64_t kPage = 16;

// Pages that a row of `tokens` tokens attends; none where the snippet is refused.
std::optional<std::int64_t> attended(const std::string& code, std::int64_t tokens, bool folded) {
  ir::Program program;
  program.name = "fuzzed";
  program.config.page_size = kPage;
  std::map<std::string, ir::SnippetNumber> numbers{
      {"topk_val", {29, true}}, {"topk_ratio", {0.25, false}}, {"block_reserved_bos", {1, true}}};
  if (folded) {
    numbers["cached_block_len"] = {static_cast<double>((tokens + kPage - 1) / kPage), true};
    numbers["seq_tokens"] = {static_cast<double>(tokens), true};
    numbers["seq_step"] = {5, true};
    numbers["layer_index"] = {3, true};
    numbers["layer_count"] = {30, true};
  }
  program.score = ir::append(program, ir::op_named("page_index"), {}, {}, {});
  try {
    program.budget = ir::append_budget_snippet(program, code, numbers, {});
    ir::verify(program);
  } catch (const UserError& error) {
    if (error.required().empty()) fail("an error without words", code);
    return std::nullopt;
  }
  if (ir::print(ir::parse(ir::print(program))) != ir::print(program)) fail("text does not read back", code);
  ir::Environment environment;
  environment.tokens = tokens;
  environment.step = 5;
  environment.layer = 3;
  environment.layers = 30;
  return ir::RowRule(program)(program.config, environment).attended;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string code(reinterpret_cast<const char*>(data), size);
  for (const std::int64_t tokens : {1, 700, 16000}) {
    const auto computed = attended(code, tokens, false);
    const auto folded = attended(code, tokens, true);
    if (computed && folded && *computed != *folded) fail("a folded snippet gives other pages", code);
  }
  return 0;
}
