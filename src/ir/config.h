// The few settings of a flow, with one set of defaults. A flow carries its own; a caller may override them by name.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ir/type.h"

namespace vortex::ir {

struct FlowConfig {
  std::int64_t page_size = 16;  // tokens a page of the flow; a multiple of the engine's physical page
  std::int64_t budget = 0;      // attended pages a row in all, pinned ones included; 0: given by budget_ratio
  double budget_ratio = 0.0;    // share of a row's pages; the budget is the larger of the two
  std::int64_t sinks = 1;       // first pages, always attended
  std::int64_t recent = 2;      // last pages, always attended; the open page is one of them
  std::vector<std::int64_t> full_attention_layers = {};  // layers this flow leaves unsparse, ascending
  DType summary_dtype = DType::bf16;
  std::map<std::int64_t, std::int64_t> reuse = {};  // layer → the earlier layer whose set it takes
  std::int64_t reuse_run = 1;  // so many layers in a row attend the set of the first of them that is sparse
  // A set is chosen at every n-th decode step; in between, a row attends the pages it has and those that came since.
  std::int64_t refresh_every = 1;

  bool operator==(const FlowConfig&) const = default;

  // Throws UserError naming the setting when a value is out of range.
  void validate(const std::string& where) const;
  // Sets one field from text ("32", "0.25", "0,1,5"); an unknown name is refused with the nearest one.
  void set(const std::string& name, const std::string& value);
  static const std::vector<std::string>& names();
  // Canonical text, "page_size=16 budget=32 ..." in the order of names(); equal configs have equal text. reuse and
  // refresh_every are left out while they are off.
  std::string print() const;
  bool reuses() const { return !reuse.empty() || reuse_run > 1; }
  bool is_full(std::int64_t layer) const;            // one of full_attention_layers
  std::int64_t source_of(std::int64_t layer) const;  // the layer whose set a layer attends: itself, or as reuse says
};

// Pages a row attends when it holds `pages` pages: clamp(max(budget, ⌊ratio·pages⌋), pinned, pages).
std::int64_t budget_of(const FlowConfig&, std::int64_t pages);
// Pages a row of `pages` pages always attends: sinks and recent ones, the last page at least.
std::int64_t pinned_of(const FlowConfig&, std::int64_t pages);

// What a decode step does with the pages of a row. Logical pages [first, first + candidates) are neither sinks nor
// recent; `chosen` of them are attended: none without a score, unless the budget covers all pages.
struct RowPages {
  std::int64_t pages = 0;     // the open one included
  std::int64_t attended = 0;  // in all
  std::int64_t candidates = 0, first = 0, chosen = 0;

  bool open = false;  // how many are attended shows when the pages are chosen: all at most

  bool selects() const { return open ? candidates > 0 : attended < pages; }  // else the row is full attention
};
RowPages row_pages(const FlowConfig&, bool has_score, std::int64_t pages);
// The same when the row wants to attend `wanted` pages in all, whatever the settings say.
RowPages row_pages(const FlowConfig&, bool has_score, std::int64_t pages, std::int64_t wanted);

}  // namespace vortex::ir
