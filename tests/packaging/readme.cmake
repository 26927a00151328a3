# Checks README.md: it must show `quickstart` and an excerpt of `pack_layer` as they are compiled, and the output of `program`, the
# quickstart: the same words, and numbers within 1%, because other processors round differently.
file(READ ${source}/README.md readme)

function(require_shown example text)
    string(FIND "${readme}" "${text}" position)
    if(position EQUAL -1)
        message(SEND_ERROR "README.md does not show ${example} as it is")
    endif()
endfunction()

file(READ ${source}/examples/quickstart/main.cpp quickstart)
string(REPLACE "// SPDX-License-Identifier: MIT\n" "" quickstart "${quickstart}")  # which says nothing to a reader
require_shown(examples/quickstart/main.cpp "```cpp\n${quickstart}```\n")

file(READ ${source}/examples/pack_layer/main.cpp pack_layer)
string(REGEX MATCH "    // GPTQ[^`]*  const magr::gptq_tensors[^\n]*\n" excerpt "${pack_layer}")
require_shown(examples/pack_layer/main.cpp "```cpp\n${excerpt}```\n")

if(NOT readme MATCHES "It prints\n```\n([^`]+)```\n")
    message(FATAL_ERROR "README.md does not show what the quickstart prints")
endif()
set(shown "${CMAKE_MATCH_1}")
execute_process(COMMAND ${program} OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)

set(number "[0-9]+\\.[0-9][0-9][0-9][0-9]")
string(REGEX REPLACE ${number} "NUMBER" shown_words "${shown}")
string(REGEX REPLACE ${number} "NUMBER" printed_words "${printed}")
if(NOT shown_words STREQUAL printed_words)
    message(SEND_ERROR "README.md shows\n${shown}but the quickstart prints\n${printed}")
endif()
string(REGEX MATCHALL ${number} shown_numbers "${shown}")
string(REGEX MATCHALL ${number} printed_numbers "${printed}")
foreach(old new IN ZIP_LISTS shown_numbers printed_numbers)
    string(REPLACE "." "" a ${old})
    string(REPLACE "." "" b ${new})
    math(EXPR excess "(${a} - ${b}) * (${a} - ${b}) * 10000 - ${b} * ${b}")
    if(excess GREATER 0)
        message(SEND_ERROR "README.md shows ${old} where the quickstart prints ${new}")
    endif()
endforeach()
