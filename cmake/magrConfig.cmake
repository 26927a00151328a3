# What `find_package(magr)` reads in the installed package.
include("${CMAKE_CURRENT_LIST_DIR}/dependencies.cmake")
if(magr_missing)
    set(magr_FOUND FALSE)
    set(magr_NOT_FOUND_MESSAGE "${magr_missing}")
    return()
endif()
include("${CMAKE_CURRENT_LIST_DIR}/magrTargets.cmake")
