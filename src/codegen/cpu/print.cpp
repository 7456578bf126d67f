// Tile programs as text.
#include "base/text.h"
#include "codegen/cpu/program.h"
#include "ir/op.h"

namespace vortex::codegen {

namespace {

const char* name_of(Opcode code) {
  static constexpr const char* names[] = {
      "load_q",     "load_param",   "scalar",      "map",        "reduce",   "along",      "contract",
      "copy",       "page_index",   "gather",      "pack",       "stream",   "fold_begin", "fold",
      "fold_end",   "fold_product", "choose",      "scan_begin", "scan",     "load_token", "store_field",
      "load_state", "store_state",  "group_homes", "members",    "restrict", "spread",     "shift"};
  return names[static_cast<std::size_t>(code)];
}

std::string print(const Operand& operand) {
  switch (operand.space) {
    case Space::none:
      return "";
    case Space::scratch:
      return concat(" s", operand.offset);
    case Space::rows:
      return concat(" r", operand.offset);
    case Space::spill:
      return concat(" m", operand.offset);
  }
  return "";
}

void add(std::string& out, const Instructions& code, const compiler::Plan& plan, const TileProgram& program) {
  for (const Instruction& at : code) {
    out += concat("  ", name_of(at.code));
    if (at.value >= 0) out += concat(" ", plan.program.node(at.value).op->name, " %", at.value);
    if (at.field >= 0 && (at.code == Opcode::gather || at.code == Opcode::stream || at.code == Opcode::store_field))
      out += concat(" page.", program.fields[static_cast<std::size_t>(at.field)].name);
    if (at.code == Opcode::load_state || at.code == Opcode::store_state)
      out += concat(" ", program.states[static_cast<std::size_t>(at.field)].name);
    const std::string inputs = concat(print(at.a), print(at.b), print(at.c));
    if (!inputs.empty()) out += concat(" from", inputs);
    if (at.out.space != Space::none) out += concat(" to", print(at.out));
    if (at.code == Opcode::stream)
      out += concat(" heads=", at.streamed.heads, " vectors=", at.streamed.vectors, " dim=", at.streamed.dim);
    if (at.nest.rank > 0) {
      out += " loops";
      for (int loop = 0; loop < at.nest.rank; ++loop) out += concat(" ", at.nest.extent[loop]);
    }
    out += "\n";
  }
}

// What lanes run over, where that is not the candidates.
std::string over(int number, const TileProgram& program) {
  if (number == 0) return "";
  const LaneDomain& domain = program.domains[static_cast<std::size_t>(number)];
  const std::string units = domain.pages > 1 ? concat("groups of ", domain.pages) : "pages";
  return domain.of < 0 ? concat(" over ", units) : concat(" over ", units, " of set ", number);
}

}  // namespace

std::string print(const TileProgram& program, const compiler::Plan& plan) {
  std::string out = concat("tiles ", plan.program.name, " rows=", program.row_floats, " spill=", program.spill_elements,
                           " scratch=", program.scratch_floats, "\n");
  if (program.summarize.empty()) out += "summarize\n";
  for (const auto& [pages, code] : program.summarize) {
    out += concat("summarize", pages > 1 ? concat(" a group of ", pages) : "", "\n");
    add(out, code, plan, program);
  }
  out += "row\n";
  add(out, program.row, plan, program);
  for (std::size_t k = 0; k < program.page.size(); ++k) {
    out += concat("page ", k, over(program.page[k].domain, program), "\n");
    add(out, program.page[k].code, plan, program);
    if (k >= program.finish.size()) continue;
    out += concat("finish ", k, "\n");
    for (const Sweep& sweep : program.finish[k]) {
      add(out, sweep.rows, plan, program);
      for (const Lanes& lanes : sweep.lanes) {
        out += concat(" sweep", over(lanes.domain, program), "\n");
        add(out, lanes.code, plan, program);
      }
    }
  }
  return out;
}

}  // namespace vortex::codegen
