# The emulated GPU (README.md): device code compiled by the host's compiler, and what runs it.
set(TENDRIL_EMULATOR ${CMAKE_CURRENT_LIST_DIR})
set(TENDRIL_EMULATED_CODE ${PROJECT_BINARY_DIR}/emulated)  # .cu and .cuh files, rewritten

add_executable(tendril_launches ${TENDRIL_EMULATOR}/launches.cpp)
target_compile_features(tendril_launches PRIVATE cxx_std_20)

file(GLOB emulator_sources CONFIGURE_DEPENDS ${TENDRIL_EMULATOR}/*.cpp)
list(FILTER emulator_sources EXCLUDE REGEX "/launches\\.cpp$")
add_library(tendril_emulator OBJECT ${emulator_sources})
target_compile_features(tendril_emulator PUBLIC cxx_std_20)
set_target_properties(tendril_emulator PROPERTIES POSITION_INDEPENDENT_CODE ON UNITY_BUILD OFF)
target_compile_options(tendril_emulator PRIVATE -Wall -Wextra -O2)
target_link_libraries(tendril_emulator PRIVATE OpenMP::OpenMP_CXX)
set_source_files_properties(${TENDRIL_EMULATOR}/fragments.cpp PROPERTIES COMPILE_OPTIONS -O3)
target_include_directories(tendril_emulator PUBLIC ${TENDRIL_EMULATOR}/include ${TENDRIL_EMULATED_CODE}
                                            PRIVATE ${PROJECT_BINARY_DIR}/include)

# Puts into `result` the place of the rewritten source; CMake runs the program before what needs it.
function(tendril_rewrite_launches source result)
  cmake_path(RELATIVE_PATH source BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE name)
  set(rewritten ${TENDRIL_EMULATED_CODE}/tendril/${name})
  if(name MATCHES "\\.cu$")
    string(APPEND rewritten .cpp)
  endif()
  add_custom_command(OUTPUT ${rewritten} COMMAND tendril_launches ${source} ${rewritten}
                     DEPENDS ${source} tendril_launches VERBATIM)
  set(${result} ${rewritten} PARENT_SCOPE)
endfunction()

# Compiles .cu files of a folder, and the headers of device code that they include, into `target`.
function(tendril_emulated_sources target folder sources)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cuh)
  list(FILTER sources EXCLUDE REGEX "/core/cuda/cublaslt\\.cu$")  # blas.cpp has its function
  set(all_rewritten)
  foreach(source ${sources} ${headers})
    tendril_rewrite_launches(${source} rewritten)
    list(APPEND all_rewritten ${rewritten})
  endforeach()
  add_library(${target}_emulated OBJECT ${all_rewritten})
  tendril_configure_target(${target}_emulated)
  set_target_properties(${target}_emulated PROPERTIES UNITY_BUILD OFF)
  # Speed is not what these are for: -O1 compiles twice as fast as -O3.
  target_compile_options(${target}_emulated PRIVATE -O1 -ffp-contract=off -Wno-unknown-pragmas)
  target_compile_definitions(${target}_emulated PRIVATE TENDRIL_WITH_CUDA)
  target_include_directories(${target}_emulated BEFORE PRIVATE ${TENDRIL_EMULATOR}/include ${TENDRIL_EMULATED_CODE})
  target_compile_definitions(${target} PRIVATE TENDRIL_WITH_CUDA)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:${target}_emulated>)
  if(folder STREQUAL "core")  # every other folder links it
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:tendril_emulator>)
  endif()
endfunction()

# The kernels of tests/test_emulated_gpu.cpp.
tendril_rewrite_launches(${TENDRIL_EMULATOR}/samples.cu samples)
add_library(tendril_emulated_samples OBJECT EXCLUDE_FROM_ALL ${samples})
target_compile_features(tendril_emulated_samples PRIVATE cxx_std_20)
target_compile_options(tendril_emulated_samples PRIVATE -Wall -Wextra -O1)
set_target_properties(tendril_emulated_samples PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(tendril_emulated_samples PRIVATE ${TENDRIL_EMULATOR} ${TENDRIL_EMULATOR}/include)
