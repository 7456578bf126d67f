// seq_state: what the flow carries of a row from step to step.
#include "ir/ops/state.h"

namespace vortex::ir {

OpDef define_seq_state() {
  return state_op("seq_state",
                  "What the step before set of the sequence by this name, for each layer and KV head; `initial` before "
                  "the first. In `score` and what follows it only.",
                  Domain::Kind::row);
}

}  // namespace vortex::ir
