// page_state: what the flow carries of a page from step to step.
#include "ir/ops/state.h"

namespace vortex::ir {

OpDef define_page_state() {
  return state_op("page_state",
                  "What the step before set of the page by this name; `initial` before the first, and for a page that "
                  "was no candidate yet. In `score` and what follows it only.",
                  Domain::Kind::page);
}

}  // namespace vortex::ir
