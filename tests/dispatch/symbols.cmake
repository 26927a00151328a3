# Checks the `object` that join.cmake made of the instruction set `set`: nothing in it can be taken for, or be replaced by, a function of
# another set or of the host, and none of its code runs before a set is chosen.
execute_process(COMMAND ${nm} --defined-only --extern-only --format=posix ${object} OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "[^\n]+" defined "${listing}")
list(LENGTH defined count)
if(count LESS 10)
    message(FATAL_ERROR "${object} defines ${count} symbols: this test looks at nothing")
endif()
list(FILTER defined EXCLUDE REGEX "^_ZNK?4magr[^ ]*\\.${set} [TW] ")
foreach(symbol IN LISTS defined)
    message(SEND_ERROR "${set} shares ${symbol}")
endforeach()

execute_process(COMMAND ${nm} --undefined-only --format=posix ${object} OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "_Z[A-Z]*[0-9]*4magr[^ \n]*|_Z[A-Z]*5Eigen[^ \n]*|_Z[A-Z]*5xsimd[^ \n]*" missing "${listing}")
foreach(symbol IN LISTS missing)
    message(SEND_ERROR "${set} takes from elsewhere: ${symbol}")
endforeach()

execute_process(COMMAND ${objdump} --section-headers --wide ${object} OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL " \\.(group|init_array|preinit_array|ctors|init)[. ][^\n]*" sections "${listing}")
foreach(section IN LISTS sections)
    message(SEND_ERROR "${set} has the section${section}")
endforeach()
