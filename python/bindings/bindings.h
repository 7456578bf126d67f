// One line per noun of the extension module: defined in NOUN.cpp, called by module.cpp.
#pragma once

#include <nanobind/nanobind.h>

namespace vortex::python {

void bind_engine(nanobind::module_& m);
void bind_env(nanobind::module_& m);
void bind_compiler(nanobind::module_& m);
void bind_cpu_flow(nanobind::module_& m);
void bind_device(nanobind::module_& m);
void bind_errors(nanobind::module_& m);
void bind_flow(nanobind::module_& m);
void bind_kernels(nanobind::module_& m);
void bind_model(nanobind::module_& m);
void bind_sandbox(nanobind::module_& m);
void bind_workbench(nanobind::module_& m);

}  // namespace vortex::python
