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

# The CUDA, MPI and NCCL back ends are not in this version. What is found is reported; nvcc also
# compiles the host/device code, so that it stays fit for kernels (tests/cuda).
set(TENDRIL_HAVE_CUDA OFF)
if(PROJECT_IS_TOP_LEVEL)
  foreach(feature MPI NCCL)
    if(TENDRIL_${feature} STREQUAL "ON")
      message(FATAL_ERROR "TENDRIL_${feature}=ON, but this version has no ${feature} back end. Use AUTO or OFF.")
    endif()
  endforeach()
  if(NOT TENDRIL_MPI STREQUAL "OFF")
    find_program(TENDRIL_MPICXX NAMES mpicxx mpic++)
  endif()
  if(NOT TENDRIL_NCCL STREQUAL "OFF")
    find_path(TENDRIL_NCCL_INCLUDE nccl.h PATHS /usr/local/cuda/include)
  endif()
  if(NOT TENDRIL_CUDA STREQUAL "OFF")
    find_program(TENDRIL_NVCC nvcc PATHS /usr/local/cuda/bin)
    if(TENDRIL_NVCC)  # an old one, or one without a host compiler that it likes, counts as none
      if(NOT DEFINED TENDRIL_NVCC_WORKS)
        set(probe ${PROJECT_BINARY_DIR}/CMakeFiles/tendril_nvcc.cu)
        file(WRITE ${probe} "#include <cmath>\n__global__ void kernel() {}\n")
        execute_process(COMMAND ${TENDRIL_NVCC} -std=c++20 -c ${probe} -o ${probe}.o
                        RESULT_VARIABLE failure OUTPUT_QUIET ERROR_QUIET)
        string(COMPARE EQUAL "${failure}" 0 works)
        set(TENDRIL_NVCC_WORKS ${works} CACHE INTERNAL "nvcc compiles C++20")
      endif()
      set(TENDRIL_HAVE_CUDA ${TENDRIL_NVCC_WORKS})
    endif()
    if(TENDRIL_CUDA STREQUAL "ON" AND NOT TENDRIL_HAVE_CUDA)
      message(FATAL_ERROR "TENDRIL_CUDA=ON, but there is no nvcc that compiles C++20; found: ${TENDRIL_NVCC}. "
                          "Put one on PATH (CUDA 12 or newer) or use AUTO.")
    endif()
  endif()
elseif(TENDRIL_CUDA STREQUAL "ON" OR TENDRIL_MPI STREQUAL "ON" OR TENDRIL_NCCL STREQUAL "ON")
  message(FATAL_ERROR "This version of Tendril has no CUDA, MPI or NCCL back end; "
                      "leave TENDRIL_CUDA, TENDRIL_MPI and TENDRIL_NCCL at AUTO or OFF.")
endif()
