# Installs the library with its headers, and then all of it, in absolute folders outside of the prefix, and builds a project with what was
# installed.
file(REMOVE_RECURSE ${scratch})
set(common -G ${generator} -DCMAKE_CXX_COMPILER=${compiler} -DEigen3_DIR=${eigen} -Dxsimd_DIR=${xsimd})

# install(FOLDER DATA OPTION...): DATA is the folder in which the package is expected.
function(install folder data)
    set(headers ${scratch}/${folder}/dev/include)
    execute_process(COMMAND ${CMAKE_COMMAND} -S ${source} -B ${scratch}/${folder}/build ${common} -DMAGR_BUILD_TESTS=OFF
                            -DMAGR_BUILD_EXAMPLES=OFF -DCMAKE_INSTALL_PREFIX=${scratch}/${folder}/out
                            -DCMAKE_INSTALL_INCLUDEDIR=${headers} ${ARGN}
                    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND ${CMAKE_COMMAND} --install ${scratch}/${folder}/build OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
    if(NOT EXISTS ${headers}/magr/magr.hpp)
        message(SEND_ERROR "the headers are not in ${headers}")
    endif()
    file(READ ${data}/pkgconfig/magr.pc text)
    if(NOT text MATCHES "includedir=${headers}\n")
        message(SEND_ERROR "magr.pc does not name ${headers}: ${text}")
    endif()
    set(project ${scratch}/${folder}/project)
    execute_process(COMMAND ${CMAKE_COMMAND} -S ${source}/tests/packaging/parent -B ${project} ${common} -DPARENT_HAS=packages
                            -Dmagr_DIR=${data}/cmake/magr
                    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND ${CMAKE_COMMAND} --build ${project} OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
endfunction()
install(headers ${scratch}/headers/out/share)
install(all ${scratch}/all/dev/share -DCMAKE_INSTALL_DATADIR=${scratch}/all/dev/share -DCMAKE_INSTALL_LIBDIR=${scratch}/all/out/lib)
