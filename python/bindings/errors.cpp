// The three kinds of failure across the border: a vortex::UserError thrown in C++ arrives in Python as
// vortex_attention.errors.UserError with its four parts, likewise MachineError and InternalError.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>
#include <vortex/error.h>

#include <string>
#include <vector>

#include "base/text.h"
#include "bindings/bindings.h"

namespace nb = nanobind;

namespace vortex::python {

namespace {

// What came may be cut inside a letter, or no text at all: it must not hide the error.
nb::object text(const std::string& part) {
  PyObject* out = PyUnicode_DecodeUTF8(part.data(), static_cast<Py_ssize_t>(part.size()), "replace");
  if (out == nullptr) nb::raise_python_error();
  return nb::steal(out);
}

// A name from a command line or a JSON file may hold what UTF-8 cannot: that becomes a question mark.
std::string utf8(const nb::str& name) {
  PyObject* bytes = PyUnicode_AsEncodedString(name.ptr(), "utf-8", "replace");
  if (bytes == nullptr) nb::raise_python_error();
  const nb::bytes out = nb::steal<nb::bytes>(bytes);
  return {out.c_str(), out.size()};
}

// The Python classes are looked up when an error is thrown, so that importing _core needs nothing but itself.
void raise(const char* kind, const Error& error) {
  try {
    nb::object type = nb::module_::import_("vortex_attention.errors").attr(kind);
    nb::object instance = type(text(error.where()), text(error.required()), text(error.came()), text(error.todo()));
    PyErr_SetObject(type.ptr(), instance.ptr());
  } catch (nb::python_error& failure) {
    failure.restore();
  }
}

void translate(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const UserError& error) {
    raise("UserError", error);
  } catch (const MachineError& error) {
    raise("MachineError", error);
  } catch (const InternalError& error) {
    raise("InternalError", error);
  }
}

void throw_error(const std::string& kind, const std::string& where, const std::string& required,
                 const std::string& came, const std::string& todo) {
  if (kind == "UserError") throw UserError(where, required, came, todo);
  if (kind == "MachineError") throw MachineError(where, required, came, todo);
  if (kind == "InternalError") throw InternalError(where, required, came, todo);
  throw UserError("kind", "one of UserError, MachineError, InternalError", concat("got '", kind, "'"),
                  "name one of them");
}

}  // namespace

void bind_errors(nb::module_& m) {
  nb::register_exception_translator(translate);
  m.def("throw_error", &throw_error, nb::arg("kind"), nb::arg("where"), nb::arg("required"), nb::arg("came"),
        nb::arg("todo"), "Throws the error in C++; the tests of the border use it.");
  m.def(
      "nearest_name",
      [](const nb::str& name, const nb::iterable& known) {
        std::vector<std::string> names;
        for (nb::handle each : known) names.push_back(utf8(nb::cast<nb::str>(each)));
        return nearest_name(utf8(name), names);
      },
      nb::arg("name"), nb::arg("known"), "The known name nearest to `name`, or \"\" when none is near.");
}

}  // namespace vortex::python
