# Compiler, linker and warning settings shared by all rooms.
find_program(VORTEX_CCACHE ccache)
if(VORTEX_CCACHE)
  # Paths are hashed relative to the source folder, so several checkouts share one cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros ${VORTEX_CCACHE})
endif()
find_program(VORTEX_MOLD mold)
if(VORTEX_MOLD AND NOT CMAKE_CROSSCOMPILING)
  add_link_options(-fuse-ld=mold)
endif()

# -O3 is for the loops, in the rooms that ask for it (room.cmake); elsewhere it only takes time to compile.
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
add_compile_options(-Wall -Wextra -Wshadow -Wno-psabi -fno-math-errno)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
  add_compile_options(-Wno-dangling-reference)  # GCC 13 takes any function of a temporary for one that returns it
endif()
if(VORTEX_WERROR)
  add_compile_options(-Werror)
endif()
# Sums keep the order they are written in: contraction to FMA would make results depend on the compiler's mood.
add_compile_options(-ffp-contract=off)
if(VORTEX_SANITIZE)
  add_compile_options(-fsanitize=${VORTEX_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${VORTEX_SANITIZE})
endif()
