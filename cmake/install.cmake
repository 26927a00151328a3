# Installs the headers, the CMake package (`find_package(magr)` gives `magr::magr`) and `magr.pc`. Nothing depends on the processor, so
# everything but the headers goes to the data folder.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(magr_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/magr)

install(TARGETS magr EXPORT magrTargets FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILE_SET adaptors DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT magrTargets NAMESPACE magr:: DESTINATION ${magr_package_dir})

# While the major version is 0, a new minor version may break callers.
write_basic_package_version_file(magrConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES cmake/magrConfig.cmake cmake/dependencies.cmake ${CMAKE_CURRENT_BINARY_DIR}/magrConfigVersion.cmake
        DESTINATION ${magr_package_dir})

configure_file(cmake/magr.pc.in magr.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/magr.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/magr)
