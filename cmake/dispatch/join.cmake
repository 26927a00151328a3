# Makes one object, `output`, of the `objects` of an instruction set, `set`. In it every symbol is local but the functions that headers only
# declare, which get the ending `.${set}`. Their names, as they were, are written to ${output}.txt.
#
# Which they are is read from the `units`, the files of cmake/compiled: functions that are not templates are the only strong symbols, and
# templates are those that a unit instantiates explicitly. Functions that a host compiles itself, from the same headers, must not be among
# them: half of a pair that agrees on the width of registers would then be the host's, and the other half the set's.
cmake_policy(SET CMP0057 NEW)  # IN_LIST

# --force-group-allocation: otherwise the linker of the program would still merge functions of the same name, local or not.
execute_process(COMMAND ${ld} -r --force-group-allocation -o ${output} ${objects} COMMAND_ERROR_IS_FATAL ANY)

string(LENGTH ${tag} length)
set(tag ${length}${tag})
execute_process(COMMAND ${nm} --defined-only --extern-only --format=posix ${output} OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REGEX MATCHALL "_ZNK?4magr(6detail)?${tag}[^ \n]* [TW]" defined "${listing}")
if(NOT defined)
    message(FATAL_ERROR "magr::dispatch: the compiler does not compile for ${tag} when it is asked to, for the set '${set}'. If CMAKE_CXX_FLAGS "
                        "name an instruction set, configure magr::dispatch without that")
endif()

# `template matrix<Scalar> dequantize(..)` and `template class gram_accumulator<Scalar>` instantiate `dequantize` and `gram_accumulator`.
set(instantiated "")
foreach(unit IN LISTS units)
    file(READ ${unit} text)
    string(REGEX REPLACE "\\\\\n" " " text "${text}")
    string(REPLACE ";" "\n" text "${text}")
    string(REGEX MATCHALL "[\n ]template [^\n]*" instances "${text}")
    foreach(instance IN LISTS instances)
        if(NOT instance MATCHES "template class ([a-z0-9_]+)()<Scalar>|^[^(]*[^(a-z0-9_]([a-z0-9_]+)(<Scalar>)?\\(")
            message(FATAL_ERROR "${unit}: an instantiation without a name:${instance}")
        endif()
        set(name ${CMAKE_MATCH_1}${CMAKE_MATCH_3})
        string(LENGTH ${name} length)
        list(APPEND instantiated ${length}${name})
    endforeach()
endforeach()
list(REMOVE_DUPLICATES instantiated)

set(templates "${defined}")
list(JOIN instantiated "|" any_of_them)
list(FILTER templates INCLUDE REGEX "^_ZNK?4magr(6detail)?${tag}([0-9]+[a-z_]+)?(${any_of_them})(B5cxx11)?I")
foreach(name IN LISTS instantiated)
    if(NOT templates MATCHES "${name}(B5cxx11)?I")
        message(FATAL_ERROR "magr::dispatch: nothing that '${set}' defines is an instance of ${name}")
    endif()
endforeach()
set(entries "${defined}")
list(FILTER entries INCLUDE REGEX " T$")
list(APPEND entries ${templates})
list(REMOVE_DUPLICATES entries)
list(SORT entries)

list(TRANSFORM entries REPLACE " .$" "" OUTPUT_VARIABLE names)
list(TRANSFORM names REPLACE "(.+)" "\\1 \\1.${set}" OUTPUT_VARIABLE renamings)
list(JOIN names "\n" names)
list(JOIN renamings "\n" renamings)
list(JOIN entries "\n" entries)
file(WRITE ${output}.keep "${names}\n")
file(WRITE ${output}.rename "${renamings}\n")
execute_process(COMMAND ${objcopy} --keep-global-symbols=${output}.keep ${output} COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND ${objcopy} --redefine-syms=${output}.rename ${output} COMMAND_ERROR_IS_FATAL ANY)
file(WRITE ${output}.txt "${tag}\n${entries}\n")
