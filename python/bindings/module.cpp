// vortex_attention._core: the C++ core as Python sees it. Only this list; each noun is bound in its own file.
#include "bindings/bindings.h"

NB_MODULE(_core, m) {
  using namespace vortex::python;
  m.doc() = "The C++ core of Vortex. Use it through vortex_attention.";
  bind_env(m);
  bind_sandbox(m);
  bind_errors(m);
  bind_device(m);
  bind_flow(m);
  bind_compiler(m);
  bind_cpu_flow(m);
  bind_kernels(m);
  bind_model(m);
  bind_workbench(m);
  bind_engine(m);
}
