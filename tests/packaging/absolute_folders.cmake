# Installs the library with its headers in an absolute folder outside of the prefix, and checks that the package points to them.
file(REMOVE_RECURSE ${scratch})
set(headers ${scratch}/dev/include)
execute_process(COMMAND ${CMAKE_COMMAND} -S ${source} -B ${scratch}/build -G ${generator} -DCMAKE_CXX_COMPILER=${compiler}
                        -DEigen3_DIR=${eigen} -Dxsimd_DIR=${xsimd} -DMAGR_BUILD_TESTS=OFF -DMAGR_BUILD_EXAMPLES=OFF
                        -DCMAKE_INSTALL_PREFIX=${scratch}/out -DCMAKE_INSTALL_INCLUDEDIR=${headers}
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${CMAKE_COMMAND} --install ${scratch}/build OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
if(NOT EXISTS ${headers}/magr/magr.hpp)
    message(SEND_ERROR "the headers are not in ${headers}")
endif()
file(READ ${scratch}/out/share/pkgconfig/magr.pc text)
if(NOT text MATCHES "includedir=${headers}\n")
    message(SEND_ERROR "magr.pc does not name ${headers}: ${text}")
endif()
file(READ ${scratch}/out/share/cmake/magr/magrTargets.cmake text)
if(NOT text MATCHES "BASE_DIRS \"[^\"]*/\\.\\./dev/include\"")
    message(SEND_ERROR "magrTargets.cmake does not name the folder of the headers")
endif()
