# vortex_embed(TARGET NAMESPACE file...)
# Puts the text of device sources into the binary: function `NAMESPACE::device_source(name)` of the header that the caller
# writes. Changing a file runs CMake again, so the text in the binary is always that of the tree.
function(vortex_embed target namespace)
  set(entries "")
  foreach(file IN LISTS ARGN)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    file(READ ${CMAKE_CURRENT_SOURCE_DIR}/${file} text)
    # The name is the one in #include: from src/, or from tests/.
    file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    string(REGEX REPLACE "^(src|tests)/" "" name ${name})
    string(APPEND entries "    {\"${name}\", R\"VORTEX(${text})VORTEX\"},\n")
  endforeach()
  set(content "// Made by cmake/embed.cmake from the device sources beside their room.
#include <string_view>
#include <utility>

namespace ${namespace} {
std::string_view device_source(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> kSources[] = {
${entries}  };
  for (const auto& [known, text] : kSources)
    if (known == name) return text;
  return {};
}
}  // namespace ${namespace}
")
  string(REPLACE "::" "_" stem ${namespace})
  set(generated ${CMAKE_CURRENT_BINARY_DIR}/${stem}_sources.cpp)
  file(CONFIGURE OUTPUT ${generated} CONTENT "@content@" @ONLY)
  target_sources(${target} PRIVATE ${generated})
endfunction()
