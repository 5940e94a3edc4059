# tendril_library(folder [DEPENDS folder...] [EXCLUDE regex...]) makes target tendril_<folder> (alias tendril::<folder>)
# from all sources below the folder. A file named *.isa.cpp is compiled once per instruction set with
# TENDRIL_ISA set to its name; core/cpu/isa.h chooses among the results at run time. A file named
# *.avx512_bf16.cpp holds kernels for that one extension. Files named *.cu belong to the CUDA back end.
include(GNUInstallDirs)

set(TENDRIL_ISAS generic)
set(TENDRIL_ISA_FLAGS_generic "")
if(TENDRIL_ISA_VARIANTS AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND TENDRIL_ISAS avx2 avx512)
  set(TENDRIL_ISA_FLAGS_avx2 -mavx2 -mfma -mf16c)
  set(TENDRIL_ISA_FLAGS_avx512 -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx2 -mfma -mf16c
                               -mprefer-vector-width=512)
  set(TENDRIL_ISA_FLAGS_avx512_bf16 ${TENDRIL_ISA_FLAGS_avx512} -mavx512bf16)
endif()

function(tendril_configure_target target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON POSITION_INDEPENDENT_CODE ON CXX_EXTENSIONS OFF
    DEFINE_SYMBOL "")  # the same command for static and shared builds, so that ccache serves both
  # No code of ours reads errno or floating-point exception flags; without them loops vectorise.
  # Clang does not know GCC's ivdep.
  target_compile_options(${target} PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-psabi -fno-math-errno -fno-trapping-math>
    $<$<COMPILE_LANG_AND_ID:CXX,Clang,AppleClang>:-Wno-unknown-pragmas>)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:tendril_eigen> OpenMP::OpenMP_CXX)
endfunction()

if(TENDRIL_EMULATED_CUDA)
  include(tests/gpu/emulated/emulated.cmake)
endif()

# Compiles all .cu files below the folder into `target`; those named *.sm90a.cu, for instructions that only
# compute capability 9.0 has, for that one alone.
function(tendril_cuda_sources target folder)
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cu)
  set(hopper_sources ${sources})
  list(FILTER hopper_sources INCLUDE REGEX "\\.sm90a\\.cu$")
  list(FILTER sources EXCLUDE REGEX "\\.sm90a\\.cu$")
  if(TENDRIL_EMULATED_CUDA AND sources)
    tendril_emulated_sources(${target} ${folder} "${sources}")
  endif()
  if(NOT TENDRIL_HAVE_CUDA OR NOT sources)
    return()
  endif()
  target_sources(${target} PRIVATE ${sources})
  target_compile_definitions(${target} PRIVATE TENDRIL_WITH_CUDA)
  tendril_cuda_options(${target})
  target_link_libraries(${target} PRIVATE CUDA::cudart_static)
  # cuBLASLt is not linked: this opens it when it is needed, from the toolkit's folder if nowhere else.
  set_source_files_properties(${PROJECT_SOURCE_DIR}/core/cuda/cublaslt.cu PROPERTIES
                              COMPILE_DEFINITIONS TENDRIL_CUDA_LIBRARY_DIR="${CUDAToolkit_LIBRARY_DIR}")
  set(hopper ${CMAKE_CUDA_ARCHITECTURES})
  list(FILTER hopper INCLUDE REGEX "^90")
  if(hopper AND hopper_sources)
    add_library(${target}_sm90a OBJECT ${hopper_sources})
    tendril_configure_target(${target}_sm90a)
    tendril_cuda_options(${target}_sm90a)
    set_target_properties(${target}_sm90a PROPERTIES CUDA_ARCHITECTURES 90a-real)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_sm90a>)
    target_compile_definitions(${target} PRIVATE TENDRIL_HAVE_SM90A)
  endif()
endfunction()

function(tendril_cuda_options target)
  # The standard is named here because CMake 3.25 does not know that this nvcc speaks C++20. Device code
  # may call constexpr functions of the standard library (std::array's operator[]).
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20 --expt-relaxed-constexpr
                         --expt-extended-lambda -Xcompiler=-Wall,-Wextra,-Wno-psabi>)
endfunction()

# Compiles `sources` for one instruction set and puts the objects into `target`.
function(tendril_isa_objects target isa sources)
  set(isa_target ${target}_${isa})
  add_library(${isa_target} OBJECT ${sources})
  tendril_configure_target(${isa_target})
  set_target_properties(${isa_target} PROPERTIES UNITY_BUILD OFF)
  # Eigen's own symbols are renamed as well: the linker must never merge two instruction sets.
  target_compile_definitions(${isa_target} PRIVATE TENDRIL_ISA=${isa} TENDRIL_ISA_${isa} Eigen=Eigen_${isa})
  target_compile_options(${isa_target} PRIVATE ${TENDRIL_ISA_FLAGS_${isa}} -O3)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${isa_target}>)
endfunction()

function(tendril_library folder)
  cmake_parse_arguments(arg "" "" "DEPENDS;EXCLUDE" ${ARGN})
  set(target tendril_${folder})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cpp)
  foreach(pattern ${arg_EXCLUDE})
    list(FILTER sources EXCLUDE REGEX ${pattern})
  endforeach()
  set(isa_sources ${sources})
  list(FILTER isa_sources INCLUDE REGEX "\\.isa\\.cpp$")
  set(bf16_sources ${sources})
  list(FILTER bf16_sources INCLUDE REGEX "\\.avx512_bf16\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "\\.(isa|avx512_bf16)\\.cpp$")

  add_library(${target} ${sources})
  add_library(tendril::${folder} ALIAS ${target})
  # Before version 1.0 every minor version may change the binary interface.
  set_target_properties(${target} PROPERTIES
    EXPORT_NAME ${folder} VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    INSTALL_RPATH "$ORIGIN")
  tendril_configure_target(${target})
  tendril_cuda_sources(${target} ${folder})
  foreach(dependency ${arg_DEPENDS})
    target_link_libraries(${target} PUBLIC tendril_${dependency})
  endforeach()

  # States of 8 bits are the same for every instruction set and on a GPU, with fused multiplication or without.
  set_source_files_properties(${PROJECT_SOURCE_DIR}/core/ops/quantized_kernels.isa.cpp
                              PROPERTIES COMPILE_OPTIONS -ffp-contract=off)
  set_source_files_properties(${PROJECT_SOURCE_DIR}/core/ops/quantized_rules.cu ${PROJECT_SOURCE_DIR}/core/ops/quantize_blockwise.cu
                              PROPERTIES COMPILE_OPTIONS -fmad=false)
  if(isa_sources)
    foreach(isa ${TENDRIL_ISAS})
      tendril_isa_objects(${target} ${isa} "${isa_sources}")
      string(TOUPPER ${isa} upper)
      target_compile_definitions(${target} PRIVATE TENDRIL_HAVE_ISA_${upper})
    endforeach()
  endif()
  if(bf16_sources AND "avx512" IN_LIST TENDRIL_ISAS)
    tendril_isa_objects(${target} avx512_bf16 "${bf16_sources}")
  endif()
endfunction()
