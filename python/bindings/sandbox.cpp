// Confinement of the process that traces files, as Python sees it. Answers are written from here alone, once a process.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <stdexcept>

#include "bindings/bindings.h"
#include "sandbox/confine.h"

namespace nb = nanobind;

namespace vortex::python {

void bind_sandbox(nb::module_& m) {
  m.def("landlock_missing", &sandbox::landlock_missing, "Why the kernel offers no Landlock; empty where it does.");
  m.def("seccomp_missing", &sandbox::seccomp_missing, "Why the kernel offers no seccomp filters; empty where it does.");
  m.def("restrict_files", &sandbox::restrict_files, nb::arg("readable"),
        "This process reads files under these paths and changes none, from now on.");
  m.def("restrict_calls", &sandbox::restrict_calls, nb::arg("written"),
        "This process computes, reads, and writes to these descriptors, from now on.");
  m.def("new_seal", &sandbox::new_seal, "A seal for the next answer; fork after it.");
  m.def(
      "answer_sealed",
      [](int descriptor, const nb::callable& make) {
        static bool answering = false;
        if (answering) throw std::runtime_error("a process answers once");
        answering = true;
        return sandbox::write_answer(descriptor, nb::cast<std::string>(make()));
      },
      nb::arg("descriptor"), nb::arg("make"), "Writes the text that `make` returns under the seal.");
  m.def(
      "open_sealed",
      [](const nb::bytes& answer) -> nb::object {
        std::string text;
        if (!sandbox::open_answer(std::string(answer.c_str(), answer.size()), text)) return nb::none();
        return nb::bytes(text.data(), text.size());
      },
      nb::arg("answer"), "The bytes of an answer, None when it does not carry the seal.");
}

}  // namespace vortex::python
