# Finds Eigen and xsimd. Also part of the installed package, so that a consumer resolves them in the same way. Leaves the variable
# `magr_missing` empty, or with a sentence that says what is missing: the including file decides how to fail.
#
# Neither is asked for by version: Eigen's and xsimd's config files accept only their own major version, so one request cannot name
# both Eigen 3.4 and 5, or xsimd 8 and 14. The lower bound is checked here instead.
set(magr_missing "")

if(NOT TARGET Eigen3::Eigen)
    find_package(Eigen3 CONFIG QUIET)
    if(NOT Eigen3_FOUND)
        set(magr_missing "magr needs Eigen 3.4 or newer, which was not found (Debian and Ubuntu: apt-get install libeigen3-dev)")
    elseif(Eigen3_VERSION VERSION_LESS 3.4)
        set(magr_missing "magr needs Eigen 3.4 or newer, found ${Eigen3_VERSION} in ${Eigen3_DIR}")
    endif()
endif()

# magr::xsimd carries only the include directories: the target that Debian 12 exports links the library `xtl`, which does not exist
# there. Targets of a parent project (`xsimd`, or `xsimd::xsimd` of newer versions) are taken as they are found.
if(NOT TARGET magr::xsimd)
    if(NOT TARGET xsimd AND NOT TARGET xsimd::xsimd)
        find_package(xsimd CONFIG QUIET)
        if(NOT xsimd_FOUND)
            set(magr_missing "magr needs xsimd 8.1 or newer, which was not found (Debian and Ubuntu: apt-get install libxsimd-dev)")
        elseif(xsimd_VERSION VERSION_LESS 8.1)
            set(magr_missing "magr needs xsimd 8.1 or newer, found ${xsimd_VERSION} in ${xsimd_DIR}")
        endif()
    endif()
    foreach(target IN ITEMS xsimd xsimd::xsimd)
        if(TARGET ${target} AND NOT TARGET magr::xsimd)
            # Copied, not referred to: the target of a found package is unknown outside of the folder that looked for it.
            get_target_property(magr_xsimd_include ${target} INTERFACE_INCLUDE_DIRECTORIES)
            add_library(magr::xsimd INTERFACE IMPORTED)
            if(magr_xsimd_include)
                set_target_properties(magr::xsimd PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${magr_xsimd_include}")
            else()  # a parent's target that gets its folders from elsewhere
                set_target_properties(magr::xsimd PROPERTIES INTERFACE_LINK_LIBRARIES ${target})
            endif()
            unset(magr_xsimd_include)
        endif()
    endforeach()
endif()
