// What each step from single kernels to overlapped graphs brings a decode step, all measured in one run.
#pragma once

#include "gpu/fast_step.h"
#include "ir/program.h"

namespace vortex::bench {

// Prints a table: a rung a line, each checked against the one before it. False when a check fails.
bool run_rungs(const std::shared_ptr<device::Device>&, const gpu_tests::StepPool&, const ir::Program&, int sequences,
               int context, int more);

}  // namespace vortex::bench
