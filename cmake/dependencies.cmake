# Needed: Eigen (headers, at build time only) and OpenMP. Everything else is optional.
find_package(OpenMP REQUIRED COMPONENTS CXX)

add_library(tendril_eigen INTERFACE)
if(TENDRIL_DEPS_DIR)
  list(APPEND CMAKE_PREFIX_PATH ${TENDRIL_DEPS_DIR})
  target_include_directories(tendril_eigen SYSTEM INTERFACE ${TENDRIL_DEPS_DIR} ${TENDRIL_DEPS_DIR}/eigen3)
  set(TENDRIL_EIGEN_FOUND "headers in ${TENDRIL_DEPS_DIR}")
else()
  if(NOT TARGET Eigen3::Eigen)  # an embedder may have brought its own
    find_package(Eigen3 QUIET NO_MODULE)
  endif()
  if(NOT TARGET Eigen3::Eigen OR (Eigen3_VERSION AND Eigen3_VERSION VERSION_LESS 3.3))
    message(FATAL_ERROR "Tendril needs Eigen 3.3 or newer (Debian: libeigen3-dev). "
                        "Install it, or point TENDRIL_DEPS_DIR at a folder that contains Eigen/.")
  endif()
  target_include_directories(tendril_eigen SYSTEM INTERFACE
    $<TARGET_PROPERTY:Eigen3::Eigen,INTERFACE_INCLUDE_DIRECTORIES>)
  set(TENDRIL_EIGEN_FOUND "${Eigen3_VERSION}")
endif()

# The Trainer: CLI11's headers at build time, and yaml-cpp unless its files should be JSON only.
set(TENDRIL_HAVE_TRAINER OFF)
set(TENDRIL_HAVE_YAML OFF)
if(NOT TENDRIL_TRAINER STREQUAL "OFF")
  find_path(TENDRIL_CLI11 CLI/CLI.hpp HINTS ${TENDRIL_DEPS_DIR})
  if(TENDRIL_CLI11)
    set(TENDRIL_HAVE_TRAINER ON)
  elseif(TENDRIL_TRAINER STREQUAL "ON")
    message(FATAL_ERROR "TENDRIL_TRAINER=ON needs CLI11 (Debian: libcli11-dev). Install it, or point TENDRIL_DEPS_DIR "
                        "at a folder that contains CLI/.")
  endif()
endif()
if(TENDRIL_HAVE_TRAINER)
  if(NOT TARGET yaml-cpp)
    find_package(yaml-cpp QUIET)
  endif()
  if(TARGET yaml-cpp)
    set(TENDRIL_HAVE_YAML ON)
  endif()
endif()

find_package(Threads REQUIRED)

include(cmake/cuda.cmake)         # sets TENDRIL_HAVE_CUDA
include(cmake/distributed.cmake)  # sets TENDRIL_HAVE_MPI and TENDRIL_HAVE_NCCL
