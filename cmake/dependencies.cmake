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

# magr::xsimd stands for the target of a parent project or a found package (`xsimd`, or only `xsimd::xsimd`). It leaves out the library
# `xtl`, which xsimd can use for complex numbers: the target that Debian 12 exports links it, and it does not exist there.
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
            add_library(magr::xsimd INTERFACE IMPORTED)
            get_target_property(magr_xsimd_folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
            get_target_property(magr_xsimd_is_imported ${target} IMPORTED)
            if(magr_xsimd_is_imported AND magr_xsimd_folders)
                # Copied, not referred to: an imported target is unknown outside of the folder that looked for it.
                foreach(property IN ITEMS INCLUDE_DIRECTORIES COMPILE_DEFINITIONS COMPILE_OPTIONS)
                    get_target_property(magr_xsimd_values ${target} INTERFACE_${property})
                    if(magr_xsimd_values)
                        list(FILTER magr_xsimd_values EXCLUDE REGEX XTL_COMPLEX)
                        set_property(TARGET magr::xsimd PROPERTY INTERFACE_${property} ${magr_xsimd_values})
                    endif()
                endforeach()
                unset(magr_xsimd_values)
            else()
                # A library of the parent may still change. Its folders are those of a system, as they would be if the package was found.
                set(magr_xsimd_folders $<TARGET_PROPERTY:${target},INTERFACE_INCLUDE_DIRECTORIES>)
                set_target_properties(magr::xsimd PROPERTIES INTERFACE_LINK_LIBRARIES ${target}
                                      INTERFACE_SYSTEM_INCLUDE_DIRECTORIES ${magr_xsimd_folders})
            endif()
            unset(magr_xsimd_folders)
            unset(magr_xsimd_is_imported)
        endif()
    endforeach()
endif()
