# The engines of process groups, both optional. Inside of another project AUTO leaves them out: whoever links
# the library would link them as well.
set(TENDRIL_HAVE_MPI OFF)
set(TENDRIL_HAVE_NCCL OFF)

if(TENDRIL_MPI STREQUAL "ON" OR (TENDRIL_MPI STREQUAL "AUTO" AND PROJECT_IS_TOP_LEVEL))
  set(MPI_CXX_SKIP_MPICXX ON)  # its C interface is all that is used
  find_package(MPI QUIET COMPONENTS CXX)
  if(MPI_CXX_FOUND)
    set(TENDRIL_HAVE_MPI ON)
  elseif(TENDRIL_MPI STREQUAL "ON")
    message(FATAL_ERROR "TENDRIL_MPI=ON, but there is no MPI that CMake finds (Debian: libopenmpi-dev openmpi-bin).")
  endif()
endif()

if(TENDRIL_NCCL STREQUAL "ON" OR (TENDRIL_NCCL STREQUAL "AUTO" AND PROJECT_IS_TOP_LEVEL))
  if(TENDRIL_HAVE_CUDA)
    find_path(TENDRIL_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} PATHS /usr/local/cuda/include)
    find_library(TENDRIL_NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR} PATHS /usr/local/cuda/lib64)
  endif()
  if(TENDRIL_HAVE_CUDA AND TENDRIL_NCCL_INCLUDE AND TENDRIL_NCCL_LIBRARY)
    set(TENDRIL_HAVE_NCCL ON)
  elseif(TENDRIL_NCCL STREQUAL "ON")
    message(FATAL_ERROR "TENDRIL_NCCL=ON, but it needs TENDRIL_CUDA and NCCL's header and library; found: "
                        "CUDA ${TENDRIL_HAVE_CUDA}, ${TENDRIL_NCCL_INCLUDE}, ${TENDRIL_NCCL_LIBRARY}.")
  endif()
endif()
