# Installs the headers, the CMake package (`find_package(magr)` gives `magr::magr`) and `magr.pc`. Nothing depends on the processor, so
# everything but the headers goes to the data folder; with magr::compiled or magr::dispatch the CMake package does, and goes where libraries
# are.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(magr_package_dir ${CMAKE_INSTALL_DATADIR}/cmake/magr)
set(magr_any_processor ARCH_INDEPENDENT)
set(magr_libraries "")
if(MAGR_INSTALL_COMPILED)
    list(APPEND magr_libraries magr_compiled)
endif()
if(MAGR_BUILD_DISPATCH)
    list(APPEND magr_libraries magr_dispatch)
endif()
if(magr_libraries)
    set(magr_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/magr)
    set(magr_any_processor "")
    install(TARGETS ${magr_libraries} EXPORT magrTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

# Relative to the prefix in any case: CMake puts the prefix in front of absolute folders of file sets as well.
set(magr_include_dir ${CMAKE_INSTALL_INCLUDEDIR})
if(IS_ABSOLUTE "${magr_include_dir}")
    file(RELATIVE_PATH magr_include_dir ${CMAKE_INSTALL_PREFIX} ${magr_include_dir})
endif()
install(TARGETS magr EXPORT magrTargets FILE_SET HEADERS DESTINATION ${magr_include_dir}
        FILE_SET adaptors DESTINATION ${magr_include_dir})
install(EXPORT magrTargets NAMESPACE magr:: DESTINATION ${magr_package_dir})

# While the major version is 0, a new minor version may break callers.
write_basic_package_version_file(magrConfigVersion.cmake COMPATIBILITY SameMinorVersion ${magr_any_processor})
install(FILES cmake/magrConfig.cmake cmake/dependencies.cmake ${CMAKE_CURRENT_BINARY_DIR}/magrConfigVersion.cmake
        DESTINATION ${magr_package_dir})

# In magr.pc the headers are relative to the file itself, so that the package may be moved, unless one of the folders is absolute.
set(magr_pc_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)
if(IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_DATADIR}")
    set(magr_pc_include ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
    file(RELATIVE_PATH magr_pc_include /${magr_pc_dir} /${CMAKE_INSTALL_INCLUDEDIR})
    set(magr_pc_include "\${pcfiledir}/${magr_pc_include}")
endif()
configure_file(cmake/magr.pc.in magr.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/magr.pc DESTINATION ${magr_pc_dir})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/magr)
