# The CUDA back end: nvcc, the runtime and cuBLASLt's headers. AUTO takes it where all three are found; as a part of
# another project AUTO leaves it out, because its kernels take minutes to compile.
set(TENDRIL_HAVE_CUDA OFF)
set(TENDRIL_EMULATED_CUDA OFF)
if(TENDRIL_CUDA STREQUAL "EMULATED")  # no compiler, no libraries: tests/gpu/emulated
  if(NOT PROJECT_IS_TOP_LEVEL)
    message(FATAL_ERROR "TENDRIL_CUDA=EMULATED is for Tendril's own tests; a program takes AUTO, ON or OFF")
  endif()
  set(TENDRIL_EMULATED_CUDA ON)
  return()
endif()
if(TENDRIL_CUDA STREQUAL "OFF" OR (TENDRIL_CUDA STREQUAL "AUTO" AND (TENDRIL_SANITIZE OR NOT PROJECT_IS_TOP_LEVEL)))
  return()
endif()

find_program(TENDRIL_NVCC nvcc PATHS /usr/local/cuda/bin)
if(TENDRIL_NVCC AND NOT DEFINED TENDRIL_NVCC_WORKS)  # an old one, or one without a host compiler that it likes, counts as none
  set(probe ${PROJECT_BINARY_DIR}/CMakeFiles/tendril_nvcc.cu)
  file(WRITE ${probe} "#include <cmath>\n#include <cublasLt.h>\n__global__ void kernel() {}\n")
  execute_process(COMMAND ${TENDRIL_NVCC} -std=c++20 -c ${probe} -o ${probe}.o
                  RESULT_VARIABLE failure OUTPUT_QUIET ERROR_QUIET)
  string(COMPARE EQUAL "${failure}" 0 works)
  set(TENDRIL_NVCC_WORKS ${works} CACHE INTERNAL "nvcc compiles C++20 and finds cuBLASLt")
endif()
set(TENDRIL_HAVE_CUDA ${TENDRIL_NVCC_WORKS})
if(NOT TENDRIL_HAVE_CUDA)
  set(TENDRIL_HAVE_CUDA OFF)
  if(TENDRIL_CUDA STREQUAL "ON")
    message(FATAL_ERROR "TENDRIL_CUDA=ON, but there is no nvcc that compiles C++20 and has cuBLAS; found: ${TENDRIL_NVCC}. "
                        "Put one on PATH (CUDA 12 or newer) or use AUTO.")
  endif()
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER)
  set(CMAKE_CUDA_COMPILER ${TENDRIL_NVCC})
endif()
if(NOT CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80 90)
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
