# mpi_2, mpi_3, mpi_4: collectives between as many processes; mpi_timeout, mpi_throw: a rank that is missed.
add_executable(tendril_mpi_tests dist/mpi/mpi_tests.cpp)
target_link_libraries(tendril_mpi_tests PRIVATE tendril::tendril)
target_include_directories(tendril_mpi_tests PRIVATE ${PROJECT_SOURCE_DIR}/tests)
target_compile_options(tendril_mpi_tests PRIVATE -Wall -Wextra ${TENDRIL_TEST_OPTIONS})

# More processes than cores, and no word about missing networks. Other MPIs than Open MPI do that unasked.
execute_process(COMMAND ${MPIEXEC_EXECUTABLE} --version OUTPUT_VARIABLE mpiexec_version ERROR_QUIET)
set(mpiexec_flags)
if(mpiexec_version MATCHES "Open MPI|OpenRTE")
  set(mpiexec_flags --oversubscribe --allow-run-as-root --mca btl_base_warn_component_unused 0
                    --mca btl_vader_single_copy_mechanism none)
endif()

function(tendril_mpi_test name ranks mode expected)
  add_test(NAME mpi_${name} COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_NUMPROC_FLAG} ${ranks} ${mpiexec_flags}
                                    $<TARGET_FILE:tendril_mpi_tests> ${mode})
  # What MPI itself leaves behind is not ours to mend.
  set_tests_properties(mpi_${name} PROPERTIES TIMEOUT 600 PROCESSORS ${ranks} PASS_REGULAR_EXPRESSION "${expected}"
                       ENVIRONMENT "OMP_NUM_THREADS=1;ASAN_OPTIONS=detect_leaks=0")
endfunction()

foreach(ranks 2 3 4)
  tendril_mpi_test(${ranks} ${ranks} collectives "${ranks} ranks agree")
endforeach()
if(TENDRIL_EMULATED_CUDA)
  foreach(gpus 1 2)
    tendril_mpi_test(${gpus}_gpu 2 gpus "2 ranks agree")
    set_property(TEST mpi_${gpus}_gpu APPEND PROPERTY ENVIRONMENT TENDRIL_EMULATED_GPUS=${gpus})
  endforeach()
endif()
# Ranks 0 and 2, in either order: the operation, the step and the rank that is missed. News of an exception may
# come while they are still adding up.
foreach(fault timeout throw)
  set(timeout "rank 1 on [^ ]+ did not come within 3000 ms\n")
  set(throw "rank 1 stops with an exception\n")
  set(timeout_in "barrier 3")
  set(throw_in "(all_reduce 2|barrier 3)")
  set(zero "\\[${${fault}_in} in step 5\\] rank 0 on [^ ]+: [^\n]*${${fault}}")
  set(two "\\[${${fault}_in} in step 5\\] rank 2 on [^ ]+: [^\n]*${${fault}}")
  tendril_mpi_test(${fault} 3 ${fault} "${zero}.*${two}|${two}.*${zero}")
endforeach()
