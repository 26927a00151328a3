# Checks that the port of vcpkg has the version of the library.
file(READ ${source}/ports/magr/vcpkg.json port)
string(JSON port_version GET "${port}" version)
if(NOT port_version STREQUAL version)
    message(FATAL_ERROR "ports/magr/vcpkg.json says version ${port_version}, magr/version.hpp ${version}")
endif()
