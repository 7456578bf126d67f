// A compiled flow as callers of the C interface (include/vortex/attention.h) hold it.
#pragma once

#include <vortex/attention.h>

#include <memory>

#include "codegen/cpu/flow.h"
#include "ir/config.h"

struct vortex_flow {
  std::shared_ptr<const vortex::codegen::CpuFlow> flow;
  vortex::ir::FlowConfig config;
};
