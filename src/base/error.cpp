#include <vortex/error.h>

#include "base/check.h"

namespace vortex {

namespace {

std::string compose(const std::string& where, const std::string& required, const std::string& came,
                    const std::string& todo) {
  std::string message = concat("[", where, "] ", required);
  if (!came.empty()) message += concat("; ", came);
  if (!todo.empty()) message += concat("; ", todo);
  return message;
}

}  // namespace

Error::Error(std::string where, std::string required, std::string came, std::string todo)
    : std::runtime_error(compose(where, required, came, todo)),
      where_(std::move(where)),
      required_(std::move(required)),
      came_(std::move(came)),
      todo_(std::move(todo)) {}

void fail_check(const char* file, int line, const char* condition, const std::string& came) {
  std::string_view path = file;
  if (std::size_t at = path.rfind("src/"); at != std::string_view::npos) path.remove_prefix(at);
  throw InternalError(concat(path, ":", line), concat("the invariant `", condition, "` holds"),
                      came.empty() ? "it does not" : came, "this is a defect of Vortex, please report it");
}

}  // namespace vortex
