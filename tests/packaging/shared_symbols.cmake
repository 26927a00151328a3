# Lists the functions of magr that two object files, `one` and `other`, compiled for different instruction sets, both define under the same
# name. The linker keeps one of them, possibly one that the processor cannot run, so none of them may compute anything.
cmake_policy(SET CMP0057 NEW)  # IN_LIST

# May be shared: members of the vocabulary types and the functions around them, which only return what they are given.
set(vocabulary matrix matrix_view matrix_traits as_view as_mutable_view as_const_view grid_options weight_grids shared_scales
               quantized_matrix feedback_factor optq_result owq_matrix owq_options owq_result dint_tensors layer_options layer_result stored_matrix
               to_string ignore_progress serial_executor callback_executor shape_error option_error value_error detail5raise optq_report
               storage_limits cancelled detail13callback_task incoherence_options incoherence_recipe transformed_matrix quip_options quip_result
               named_tensor damping_choice)

function(magr_symbols object result)
    execute_process(COMMAND ${nm} --defined-only --format=posix ${object} OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "_ZNK?4magr[^ \n]* [WVu]" symbols "${listing}")
    list(TRANSFORM symbols REPLACE " .$" "")
    set(${result} ${symbols} PARENT_SCOPE)
endfunction()

magr_symbols(${one} in_one)
magr_symbols(${other} in_other)
list(LENGTH in_one count)
if(count EQUAL 0)
    message(FATAL_ERROR "${one} defines no function of magr: this test looks at nothing")
endif()

foreach(name IN LISTS vocabulary)
    list(FILTER in_one EXCLUDE REGEX "^_ZNK?4magr[0-9]+${name}[ICDcEa0-9]")
endforeach()
list(FILTER in_one EXCLUDE REGEX "D[0-2]Ev$")  # destructors
foreach(symbol IN LISTS in_one)
    if(symbol IN_LIST in_other)
        message(SEND_ERROR "defined by both: ${symbol}")
    endif()
endforeach()
