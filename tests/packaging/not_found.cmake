# Configures projects that have an old version of Eigen or xsimd, or none, or ask for what is not installed, and checks that the message
# says so. `package` is the folder of the installed package.
file(REMOVE_RECURSE ${scratch})
function(write_package name version)
    file(WRITE ${scratch}/${name}/${name}Config.cmake "")
    file(WRITE ${scratch}/${name}/${name}ConfigVersion.cmake "set(PACKAGE_VERSION ${version})\n")
endfunction()
write_package(Eigen3 3.3.9)
write_package(xsimd 7.6.0)

function(require_message modes expected)
    foreach(mode IN LISTS modes)
        file(REMOVE_RECURSE ${scratch}/build)
        execute_process(COMMAND ${CMAKE_COMMAND} -S ${source}/tests/packaging/consumer -B ${scratch}/build -G ${generator}
                                -DCMAKE_CXX_COMPILER=${compiler} -DEigen3_DIR=${eigen} -Dxsimd_DIR=${xsimd} -Dmagr_DIR=${package}
                                -DMAGR_SOURCE=${source} -DMAGR_CONSUME=${mode} ${ARGN}
                        OUTPUT_QUIET ERROR_VARIABLE message RESULT_VARIABLE failed)
        string(REGEX REPLACE "[ \n]+" " " message "${message}")
        string(FIND "${message}" "${expected}" position)
        if(NOT failed OR position EQUAL -1)
            message(SEND_ERROR "${mode} should fail with '${expected}', not with '${message}'")
        endif()
    endforeach()
endfunction()
set(both add_subdirectory find_package)
require_message("${both}" "magr needs Eigen 3.4 or newer, found 3.3.9 in ${scratch}/Eigen3" -DEigen3_DIR=${scratch}/Eigen3)
require_message("${both}" "magr needs xsimd 8.1 or newer, found 7.6.0 in ${scratch}/xsimd" -Dxsimd_DIR=${scratch}/xsimd)
require_message("${both}" "magr needs Eigen 3.4 or newer, which was not found" -DCMAKE_DISABLE_FIND_PACKAGE_Eigen3=ON)
require_message("${both}" "magr needs xsimd 8.1 or newer, which was not found" -DCMAKE_DISABLE_FIND_PACKAGE_xsimd=ON)
require_message(find_package "magr was installed without magr::gpu" -DMAGR_COMPONENTS=gpu)
