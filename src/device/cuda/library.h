// Shared libraries that are looked for when a device is opened, never linked: libcuda of the driver, libnvrtc of a
// toolkit.
#pragma once

#include <string>
#include <vector>

namespace vortex::device {

// The first of `names` that loads; null when none does, with what each said in `tried`. Never unloaded.
void* load_library(const std::vector<std::string>& names, std::string& tried);

// The folder of the library or program that this code lies in, as the loader names it; "" when it does not say.
std::string own_folder();

// The function `symbol`, or null.
void* find_symbol(void* library, const char* symbol);

}  // namespace vortex::device
