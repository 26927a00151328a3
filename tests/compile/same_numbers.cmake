# Builds one program for 64 and for 32 bits and compares the output.
#   cmake -DCOMPILER=... -DINCLUDES=-I...;-I... -DSOURCE=... -DFOLDER=... -P same_numbers.cmake
foreach(bits IN ITEMS 64 32)
    set(program ${FOLDER}/same_numbers_${bits})
    execute_process(COMMAND ${COMPILER} -std=c++20 -O1 -m${bits} -msse2 -mfpmath=sse ${INCLUDES} ${SOURCE} -o ${program} -pthread
                    COMMAND_ERROR_IS_FATAL ANY)
    execute_process(COMMAND ${program} OUTPUT_FILE ${program}.txt RESULT_VARIABLE outcome)
    if(NOT outcome EQUAL 0)
        message(FATAL_ERROR "the program for ${bits} bits ended with: ${outcome}")
    endif()
endforeach()
file(SIZE ${FOLDER}/same_numbers_64.txt size)
if(size LESS 1000)
    message(FATAL_ERROR "the programs print too little to compare: ${size} bytes")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} -E compare_files ${FOLDER}/same_numbers_64.txt ${FOLDER}/same_numbers_32.txt RESULT_VARIABLE differ)
if(NOT differ EQUAL 0)
    message(FATAL_ERROR "programs for 64 and 32 bits find different numbers: ${FOLDER}/same_numbers_64.txt, ${FOLDER}/same_numbers_32.txt")
endif()
