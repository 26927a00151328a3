# Finds Eigen and xsimd. Also part of the installed package, so that a consumer resolves them in the same way.
#
# Neither is asked for by version: Eigen's and xsimd's config files accept only their own major version, so one request cannot name
# both Eigen 3.4 and 5, or xsimd 8 and 14. The lower bound is checked here instead.
if(NOT TARGET Eigen3::Eigen)
    find_package(Eigen3 CONFIG REQUIRED)
    if(Eigen3_VERSION VERSION_LESS 3.4)
        message(FATAL_ERROR "magr needs Eigen 3.4 or newer, found ${Eigen3_VERSION}")
    endif()
endif()

# magr::xsimd carries only the include directories: the target that Debian 12 exports links the library `xtl`, which does not exist
# there. Targets of a parent project (`xsimd`, or `xsimd::xsimd` of newer versions) are taken as they are found.
if(NOT TARGET magr::xsimd)
    if(NOT TARGET xsimd AND NOT TARGET xsimd::xsimd)
        find_package(xsimd CONFIG REQUIRED)
        if(xsimd_VERSION VERSION_LESS 8.1)
            message(FATAL_ERROR "magr needs xsimd 8.1 or newer, found ${xsimd_VERSION}")
        endif()
    endif()
    set(magr_xsimd_target xsimd)
    if(NOT TARGET xsimd)
        set(magr_xsimd_target xsimd::xsimd)
    endif()
    add_library(magr::xsimd INTERFACE IMPORTED)
    target_include_directories(magr::xsimd INTERFACE $<TARGET_PROPERTY:${magr_xsimd_target},INTERFACE_INCLUDE_DIRECTORIES>)
    unset(magr_xsimd_target)
endif()
