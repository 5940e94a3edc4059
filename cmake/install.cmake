# Installs headers, libraries and the package file, so that elsewhere find_package(tendril) gives the
# targets that the build tree has: tendril::tendril and one for each folder.
if(NOT TENDRIL_INSTALL OR TENDRIL_EMULATED_CUDA)  # the emulated GPU is for our tests
  return()
endif()
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tendril)

# Public headers and ops.def, which one of them includes; no sources, no kernels, no empty folders.
foreach(folder ${TENDRIL_FOLDERS})
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}
       ${PROJECT_SOURCE_DIR}/${folder}/*.h ${PROJECT_SOURCE_DIR}/${folder}/*.def)
  list(FILTER headers EXCLUDE REGEX "^dist/launch/")  # the launcher's own
  foreach(header ${headers})
    cmake_path(GET header PARENT_PATH header_dir)
    install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tendril/${header_dir})
  endforeach()
  install(TARGETS tendril_${folder} EXPORT tendrilTargets)
endforeach()
install(FILES tendril.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/tendril)
install(TARGETS tendril EXPORT tendrilTargets)
install(EXPORT tendrilTargets NAMESPACE tendril:: DESTINATION ${package_dir})

configure_package_config_file(cmake/tendrilConfig.cmake.in ${PROJECT_BINARY_DIR}/tendrilConfig.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tendrilConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tendrilConfig.cmake ${PROJECT_BINARY_DIR}/tendrilConfigVersion.cmake
        DESTINATION ${package_dir})
