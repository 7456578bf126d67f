# What nearly every file includes, read once (see below).
set(VORTEX_STANDARD_HEADERS <algorithm> <array> <atomic> <chrono> <cmath> <cstdint> <cstring> <functional> <limits> <map>
    <memory> <mutex> <numeric> <optional> <set> <span> <string> <string_view> <tuple> <unordered_map> <utility>
    <variant> <vector>)

# vortex_room(NAME [LOOPS] DEPENDS room... LIBRARIES target...)
# Declares the static library vortex_NAME from every .cpp below the calling folder. DEPENDS is the room's link list
# and at the same time its permission: tools/check_arrows.py fails when a file includes from a room that is not listed.
# LOOPS: what runs inside a step, compiled with -O3.
function(vortex_room name)
  cmake_parse_arguments(ROOM "LOOPS" "" "DEPENDS;LIBRARIES" ${ARGN})
  file(GLOB_RECURSE sources RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(NOT VORTEX_CUDA)
    list(FILTER sources EXCLUDE REGEX "(^|/)cuda/")
  endif()
  if(NOT sources)  # a room of headers only
    add_library(vortex_${name} INTERFACE)
    target_include_directories(vortex_${name} INTERFACE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
    foreach(room IN LISTS ROOM_DEPENDS)
      target_link_libraries(vortex_${name} INTERFACE vortex_${room})
    endforeach()
    return()
  endif()
  add_library(vortex_${name} STATIC ${sources})
  target_include_directories(vortex_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/include)
  foreach(room IN LISTS ROOM_DEPENDS)
    target_link_libraries(vortex_${name} PUBLIC vortex_${room})
  endforeach()
  target_link_libraries(vortex_${name} PRIVATE ${ROOM_LIBRARIES})
  # The standard headers are read once for all rooms but those of loops: a precompiled header brings its own level of
  # optimisation along, and GCC returns to it in the code for each instruction set, which is then several times slower.
  # The asan build goes without, so every file names what it uses.
  if(ROOM_LOOPS)
    target_compile_options(vortex_${name} PRIVATE $<$<CONFIG:Release>:-O3>)
  elseif(name STREQUAL "base")
    target_precompile_headers(vortex_base PRIVATE ${VORTEX_STANDARD_HEADERS})
  else()
    target_precompile_headers(vortex_${name} REUSE_FROM vortex_base)
  endif()
endfunction()
