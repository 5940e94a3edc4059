# Needed: Eigen (headers, at build time only) and OpenMP. Everything else is optional.
find_package(OpenMP REQUIRED COMPONENTS CXX)

add_library(tendril_eigen INTERFACE)
if(TENDRIL_DEPS_DIR)
  list(APPEND CMAKE_PREFIX_PATH ${TENDRIL_DEPS_DIR})
  target_include_directories(tendril_eigen SYSTEM INTERFACE ${TENDRIL_DEPS_DIR} ${TENDRIL_DEPS_DIR}/eigen3)
else()
  find_package(Eigen3 3.3 QUIET NO_MODULE)
  if(NOT Eigen3_FOUND)
    message(FATAL_ERROR "Tendril needs Eigen 3.3 or newer (Debian: libeigen3-dev). "
                        "Install it, or point TENDRIL_DEPS_DIR at a folder that contains Eigen/.")
  endif()
  get_target_property(eigen_include Eigen3::Eigen INTERFACE_INCLUDE_DIRECTORIES)
  target_include_directories(tendril_eigen SYSTEM INTERFACE ${eigen_include})
endif()

# The optional back ends arrive with their own folders; their presence is already reported.
include(CheckLanguage)
set(TENDRIL_HAVE_CUDA OFF)
if(NOT TENDRIL_CUDA STREQUAL "OFF")
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    set(TENDRIL_HAVE_CUDA ON)
  elseif(TENDRIL_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TENDRIL_CUDA=ON, but no CUDA compiler was found. Put nvcc on PATH or use AUTO.")
  endif()
endif()
