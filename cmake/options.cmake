# Everything a builder can choose. AUTO means: use it when it is found.
foreach(feature TRAINER MPI NCCL)
  set(TENDRIL_${feature} AUTO CACHE STRING "Use ${feature}: AUTO, ON or OFF")
  set_property(CACHE TENDRIL_${feature} PROPERTY STRINGS AUTO ON OFF)
  if(NOT TENDRIL_${feature} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "TENDRIL_${feature} must be AUTO, ON or OFF; got '${TENDRIL_${feature}}'")
  endif()
endforeach()
set(TENDRIL_CUDA AUTO CACHE STRING
    "Use CUDA: AUTO, ON, OFF, or EMULATED: compile device code for the CPU, to test it without a GPU (slow)")
set_property(CACHE TENDRIL_CUDA PROPERTY STRINGS AUTO ON OFF EMULATED)
if(NOT TENDRIL_CUDA MATCHES "^(AUTO|ON|OFF|EMULATED)$")
  message(FATAL_ERROR "TENDRIL_CUDA must be AUTO, ON, OFF or EMULATED; got '${TENDRIL_CUDA}'")
endif()

option(TENDRIL_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(TENDRIL_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(TENDRIL_BENCH "Build the benchmarks" ${PROJECT_IS_TOP_LEVEL})
option(TENDRIL_LAUNCH "Build tendril-launch; it needs CLI11 and yaml-cpp" ${PROJECT_IS_TOP_LEVEL})
option(TENDRIL_INSTALL "Create install rules" ${PROJECT_IS_TOP_LEVEL})
option(TENDRIL_ISA_VARIANTS "Compile kernels for AVX2 and AVX-512 as well; the processor's best is chosen at run time" ON)
set(TENDRIL_DEPS_DIR "" CACHE PATH "Folder with dependency headers (Eigen/, doctest/, ...) on machines without packages")

# What follows concerns our own build only; a consumer's settings stay untouched.
if(PROJECT_IS_TOP_LEVEL)
  option(BUILD_SHARED_LIBS "Build shared instead of static libraries" OFF)
  option(TENDRIL_CONSUMER_TESTS "Test that other projects can use the library (builds it once more)" ON)
  set(TENDRIL_SANITIZE "" CACHE STRING "Sanitizers for the whole build, e.g. address,undefined or thread")
  if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
  endif()
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
  find_program(TENDRIL_CCACHE ccache)
  if(TENDRIL_CCACHE)
    foreach(language CXX CUDA)
      if(NOT CMAKE_${language}_COMPILER_LAUNCHER)
        # Without this it does not keep what is compiled with a precompiled header.
        set(CMAKE_${language}_COMPILER_LAUNCHER
            ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros ${TENDRIL_CCACHE})
      endif()
    endforeach()
  endif()
  if(TENDRIL_SANITIZE)
    add_compile_options($<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${TENDRIL_SANITIZE}>
                        $<$<COMPILE_LANGUAGE:CXX>:-fno-omit-frame-pointer>
                        $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize-recover=all>)
    add_link_options(-fsanitize=${TENDRIL_SANITIZE})
  endif()
endif()
