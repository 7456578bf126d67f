// What a hostile program meets on its way in: the readers of text and JSON, the verifier, the canonical form, the
// compiler and the price. Anything but a UserError or a program that reads back as itself ends the process.
#include <vortex/error.h>

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>

#include "compiler/plan.h"
#include "compiler/price.h"
#include "ir/program.h"

namespace {

using namespace vortex;

[[noreturn]] void fail(const char* what, const std::string& text) {
  std::cerr << what << ":\n" << text << "\n";
  std::abort();
}

void use(const ir::Program& program) {
  const std::string text = ir::print(program);
  if (ir::print(ir::parse(text)) != text) fail("text does not read back", text);
  if (!(ir::from_json(ir::to_json(program)) == program)) fail("JSON does not read back", text);
  try {
    ir::verify(program);
  } catch (const UserError&) {
    return;
  }
  const ir::Program canonical = ir::canonicalize(program);
  if (ir::canonical_hash(canonical) != ir::canonical_hash(program)) fail("the canonical form has another hash", text);
  try {
    const compiler::Plan plan = compiler::compile(
        program, {.page_size = program.config.page_size, .head_dim = 64, .group = 3, .value_dim = 64}, {});
    compiler::price(plan, {.layers = 4, .heads = 6, .kv_heads = 2, .head_dim = 64, .context = 5000, .batch = 2});
  } catch (const UserError&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string document(reinterpret_cast<const char*>(data), size);
  for (ir::Program (*read)(const std::string&) : {&ir::parse, &ir::from_json}) {
    try {
      use(read(document));
    } catch (const UserError& error) {
      if (error.required().empty()) fail("an error without words", document);
    }
  }
  return 0;
}
