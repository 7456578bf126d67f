// Loads shared libraries by name.
#include "device/cuda/library.h"

#include <dlfcn.h>

namespace vortex::device {

void* load_library(const std::vector<std::string>& names, std::string& tried) {
  for (const std::string& name : names) {
    if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    if (!tried.empty()) tried += "; ";
    const char* reason = dlerror();
    tried += reason != nullptr ? reason : name.c_str();
  }
  return nullptr;
}

std::string own_folder() {
  Dl_info found{};
  if (dladdr(reinterpret_cast<const void*>(&load_library), &found) == 0 || found.dli_fname == nullptr) return "";
  const std::string file = found.dli_fname;
  return file.find('/') == std::string::npos ? "" : file.substr(0, file.rfind('/'));
}

void* find_symbol(void* library, const char* symbol) { return dlsym(library, symbol); }

}  // namespace vortex::device
