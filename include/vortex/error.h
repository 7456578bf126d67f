// The three kinds of failure, each an exception type here and in Python. Expected outcomes such as "no pages free" are
// return values, not exceptions.
#pragma once

#include <vortex/export.h>

#include <stdexcept>
#include <string>

namespace vortex {

// Every message follows one formula: "[where] what was required; what came; what to do".
class VORTEX_API Error : public std::runtime_error {
 public:
  Error(std::string where, std::string required, std::string came, std::string todo);

  const std::string& where() const { return where_; }
  const std::string& required() const { return required_; }
  const std::string& came() const { return came_; }
  const std::string& todo() const { return todo_; }

 private:
  std::string where_, required_, came_, todo_;
};

// The user's: a flow, a file, an argument that cannot be accepted.
class VORTEX_API UserError : public Error {
  using Error::Error;
};

// The machine's: no memory, no disk space, no device, an instruction set that is missing.
class VORTEX_API MachineError : public Error {
  using Error::Error;
};

// Ours: an invariant of Vortex does not hold. `where` is the source file and line.
class VORTEX_API InternalError : public Error {
  using Error::Error;
};

}  // namespace vortex
