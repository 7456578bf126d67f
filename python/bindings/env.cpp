// The environment variables, the warnings about unknown ones, and the debug ladder, as Python sees them.
#include "base/env.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>
#include <vortex/error.h>

#include "base/log.h"
#include "base/text.h"
#include "base/threads.h"
#include "bindings/bindings.h"

namespace nb = nanobind;

namespace vortex::python {

void bind_env(nb::module_& m) {
  m.def(
      "env_table",
      [] {
        std::vector<std::tuple<std::string, std::string, std::string>> rows;
        for (const EnvVariable& variable : env_table())
          rows.emplace_back(variable.name, variable.fallback, variable.meaning);
        return rows;
      },
      "Every VORTEX_* variable: name, value when unset, meaning.");
  m.def(
      "env", [](const std::string& name) { return env(name); }, nb::arg("name"),
      "The value of a VORTEX_* variable, or what it is when unset.");
  m.def("thread_count", &thread_count, nb::arg("asked") = 0,
        "`asked` threads; for 0 those of VORTEX_THREADS, else one for each core that this process may use.");
  m.def("unknown_env", &unknown_env, "A line for each VORTEX_* variable that is set and means nothing.");
  m.def("debug_level", &debug_level, "The rung of the debug ladder: VORTEX_DEBUG, or what set_debug_level said.");
  m.def(
      "set_debug_level",
      [](int level) {
        if (level < 0 || level > 3)
          throw UserError("debug level", "0 to 3", concat("got ", level),
                          "1 prints names and times, 2 also IR after passes, 3 also generated source");
        set_debug_level(level);
      },
      nb::arg("level"), "Sets the rung of the debug ladder, 0 to 3.");
}

}  // namespace vortex::python
