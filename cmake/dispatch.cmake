# magr::dispatch, a static library with the code of magr::compiled for several instruction sets, of which the program chooses one when it runs:
# include/magr/dispatch.hpp says how. It takes the place of magr::compiled.
if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux" OR NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|aarch64|arm64)$")
    message(FATAL_ERROR "MAGR_BUILD_DISPATCH: magr::dispatch exists for Linux on x86-64 and 64-bit ARM")
endif()

add_library(magr_dispatch STATIC cmake/dispatch/choice.cpp)
add_library(magr::dispatch ALIAS magr_dispatch)
set_target_properties(magr_dispatch PROPERTIES EXPORT_NAME dispatch POSITION_INDEPENDENT_CODE ON)
target_compile_definitions(magr_dispatch PUBLIC MAGR_COMPILED)
target_link_libraries(magr_dispatch PUBLIC magr)

if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64)$")
    target_sources(magr_dispatch PRIVATE ${magr_units})  # every processor has NEON, so there is nothing to choose
    return()
endif()

# CMAKE_LINKER is that of LLVM where CMake finds one beside clang.
find_program(MAGR_LD_BFD ld.bfd)
mark_as_advanced(MAGR_LD_BFD)
set(magr_ld "")
foreach(linker IN ITEMS ${CMAKE_LINKER} ${MAGR_LD_BFD})
    execute_process(COMMAND ${linker} --help OUTPUT_VARIABLE magr_linker_help ERROR_QUIET)
    if(NOT magr_ld AND magr_linker_help MATCHES "--force-group-allocation")
        set(magr_ld ${linker})
    endif()
endforeach()
if(NOT magr_ld)
    message(FATAL_ERROR "MAGR_BUILD_DISPATCH needs GNU ld, of binutils 2.29 or newer, to join objects; CMAKE_LINKER is ${CMAKE_LINKER}, "
                        "and the ld.bfd on the path is ${MAGR_LD_BFD}")
endif()

# Compiles `units` with the flags that follow, and joins them to one object of which other objects see nothing but what headers declare.
# `tag` is the name of the library's namespace for these flags. Sets the variable `joined` to the path of the object.
function(magr_join_units set tag units joined)
    set(CMAKE_UNITY_BUILD OFF)  # objects are joined by the names of their units
    add_library(magr_dispatch_${set} OBJECT EXCLUDE_FROM_ALL ${units})
    # Without the -fno's the linker would optimise across instruction sets, and there would be symbols that objcopy cannot make local.
    # Without -O1, at least, Eigen's constants are initialised when the program starts, with the set's instructions.
    target_compile_options(magr_dispatch_${set} PRIVATE $<$<OR:$<CONFIG:Debug>,$<CONFIG:>>:-O1> ${ARGN} -fno-lto
                           $<$<CXX_COMPILER_ID:GNU>:-fno-gnu-unique>)
    target_compile_definitions(magr_dispatch_${set} PRIVATE MAGR_COMPILED)
    set_target_properties(magr_dispatch_${set} PROPERTIES POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden)
    target_link_libraries(magr_dispatch_${set} PRIVATE magr)  # warnings are those of magr::compiled, of the same units

    set(object ${CMAKE_CURRENT_BINARY_DIR}/dispatch/${set}.o)
    set(script ${PROJECT_SOURCE_DIR}/cmake/dispatch/join.cmake)
    file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/dispatch)
    add_custom_command(OUTPUT ${object} BYPRODUCTS ${object}.txt ${object}.keep ${object}.rename
                       COMMAND ${CMAKE_COMMAND} -D set=${set} -D tag=${tag} -D output=${object} -D ld=${magr_ld} -D nm=${CMAKE_NM}
                               -D objcopy=${CMAKE_OBJCOPY} -D "units=${units}" -D "objects=$<TARGET_OBJECTS:magr_dispatch_${set}>" -P ${script}
                       DEPENDS ${script} ${units} $<TARGET_OBJECTS:magr_dispatch_${set}>
                       COMMENT "Joining the objects for ${set}" VERBATIM)
    set(${joined} ${object} PARENT_SCOPE)
endfunction()

# From the least instructions to the most. choice.cpp knows them, too. Of each: the name of the library's namespace, and the flags.
set(magr_dispatch_sets sse4_2 avx2 avx512)
set(magr_tag_of_sse4_2 isa_sse4_2)
set(magr_tag_of_avx2 isa_avx2_fma_f16c)
set(magr_tag_of_avx512 isa_avx512_f16c)
set(magr_flags_of_sse4_2 -msse4.2)
set(magr_flags_of_avx2 -mavx2 -mfma -mf16c)
set(magr_flags_of_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c)
set(magr_dispatch_joined "")
foreach(set IN LISTS magr_dispatch_sets)
    magr_join_units(${set} ${magr_tag_of_${set}} "${magr_units}" object ${magr_flags_of_${set}})
    list(APPEND magr_dispatch_joined ${object})
endforeach()

# What the host is compiled for, from an object of its kind.
add_library(magr_dispatch_host OBJECT EXCLUDE_FROM_ALL cmake/dispatch/choice.cpp)
target_compile_definitions(magr_dispatch_host PRIVATE MAGR_COMPILED)
target_compile_options(magr_dispatch_host PRIVATE -fno-lto)
target_link_libraries(magr_dispatch_host PRIVATE magr)
set(magr_forwarders ${CMAKE_CURRENT_BINARY_DIR}/dispatch/forwarders.cpp)
add_custom_command(OUTPUT ${magr_forwarders}
                   COMMAND ${CMAKE_COMMAND} -D output=${magr_forwarders} -D nm=${CMAKE_NM} -D objdump=${CMAKE_OBJDUMP}
                           -D host=$<TARGET_OBJECTS:magr_dispatch_host> -D "sets=${magr_dispatch_sets}" -D "joined=${magr_dispatch_joined}"
                           -D forward=${PROJECT_SOURCE_DIR}/cmake/dispatch/forward_x86_64.s
                           -P ${PROJECT_SOURCE_DIR}/cmake/dispatch/forwarders.cmake
                   DEPENDS cmake/dispatch/forwarders.cmake cmake/dispatch/forward_x86_64.s ${magr_dispatch_joined}
                           $<TARGET_OBJECTS:magr_dispatch_host>
                   VERBATIM)
target_sources(magr_dispatch PRIVATE ${magr_forwarders} ${magr_dispatch_joined})
