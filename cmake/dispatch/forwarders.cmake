# Writes the unit `output`, which defines the functions of the sets under the names that the host declares, each as a jump, and the table of
# each set. `sets` names the sets, `joined` what join.cmake made of each, and `host` an object compiled as the host is. `forward` is the
# code that all jumps share.
execute_process(COMMAND ${nm} --defined-only --format=posix ${host} OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
if(NOT listing MATCHES "_ZN4magr6detail([0-9]+isa_[a-z0-9_]+)16host_of_dispatchE")
    message(FATAL_ERROR "${host} does not tell which instruction set the host is compiled for")
endif()
set(host_tag ${CMAKE_MATCH_1})

# Code that runs when the program starts would run on every processor. Where compilers optimise, no set has any.
foreach(set object IN ZIP_LISTS sets joined)
    execute_process(COMMAND ${objdump} --section-headers --wide ${object} OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
    if(listing MATCHES " \\.(init_array|preinit_array|ctors|init)[. ]")
        message(FATAL_ERROR "magr::dispatch: code for '${set}' would run before a set is chosen; compile it with -O1, at least")
    endif()
endforeach()

set(functions "")
set(tags "")
foreach(set object IN ZIP_LISTS sets joined)
    file(STRINGS ${object}.txt entries)
    list(POP_FRONT entries tag)
    string(REPLACE "${tag}" "${host_tag}" declared "${entries}")
    list(APPEND tags ${tag})
    if(NOT functions)
        set(functions ${declared})
    endif()
    # A member that is inline is defined only where the compiler did not put it into its callers, and then by every host that calls it.
    set(elsewhere ${functions})
    list(REMOVE_ITEM elsewhere ${declared})
    list(REMOVE_ITEM functions ${elsewhere} "")
endforeach()

set(forwarders "")
set(number 0)
foreach(function IN LISTS functions)
    # Bound as in magr::compiled: a template is weak, so that a host which compiles members that are inline keeps its own.
    string(REGEX REPLACE "(.*) T$" "globl, \\1" function "${function}")
    string(REGEX REPLACE "(.*) W$" "weak, \\1" function "${function}")
    string(APPEND forwarders "    magr_forward ${function}, ${number}\n")
    math(EXPR number "${number} + 1")
endforeach()

set(tables "")
foreach(set tag IN ZIP_LISTS sets tags)
    string(REPLACE "${host_tag}" "${tag}" entries "${functions}")
    list(TRANSFORM entries REPLACE "(.*) .$" "    .quad \\1.${set}")
    list(JOIN entries "\n" entries)
    string(APPEND tables "    .globl magr_dispatch_${set}\n    .hidden magr_dispatch_${set}\nmagr_dispatch_${set}:\n${entries}\n")
endforeach()

file(READ ${forward} code)
file(WRITE ${output} "// Written by forwarders.cmake.\nasm(R\"(\n${code}\n${forwarders}
    .section .data.rel.ro,\"aw\",@progbits\n    .p2align 3\n${tables}    .text\n)\");\n")
