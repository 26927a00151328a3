# What `find_package(magr)` reads in the installed package.
include("${CMAKE_CURRENT_LIST_DIR}/dependencies.cmake")
if(magr_missing)
    set(magr_FOUND FALSE)
    set(magr_NOT_FOUND_MESSAGE "${magr_missing}")
    return()
endif()
include("${CMAKE_CURRENT_LIST_DIR}/magrTargets.cmake")

# A component is a target: `find_package(magr COMPONENTS compiled)`.
foreach(component IN LISTS magr_FIND_COMPONENTS)
    if(TARGET magr::${component})
        set(magr_${component}_FOUND TRUE)
    elseif(magr_FIND_REQUIRED_${component})
        set(magr_FOUND FALSE)
        set(magr_NOT_FOUND_MESSAGE "magr was installed without magr::${component}")
    endif()
endforeach()
