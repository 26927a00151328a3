# Checks that every header under `include_dir` includes only the standard library, Eigen, xsimd and headers of magr from layers below its
# own.
cmake_policy(SET CMP0057 NEW)  # IN_LIST

# The headers of magr that each folder may include: folders, and headers directly in magr/.
set(base config.hpp version.hpp error.hpp)
set(may_include_matrix ${base} matrix)
set(may_include_simd ${base} simd)
set(may_include_kernels ${base} simd kernels matrix)
set(may_include_detail ${base} detail matrix parallel)
set(may_include_parallel ${base} matrix detail parallel)
set(may_include_linalg ${base} matrix detail parallel simd kernels linalg)
set(may_include_calibration ${base} matrix detail parallel simd kernels linalg calibration)
set(may_include_solver ${base} matrix detail parallel simd kernels linalg calibration solver)
set(may_include_preprocess ${base} matrix detail parallel calibration preprocess solver)
set(may_include_grid ${base} matrix detail parallel simd kernels linalg calibration grid)
set(may_include_feedback ${base} matrix detail parallel linalg calibration feedback)
set(may_include_quantize ${base} matrix detail parallel simd kernels linalg calibration grid feedback quantize)
set(may_include_refine ${base} matrix detail parallel simd kernels calibration grid refine)
set(may_include_pack ${base} matrix detail parallel calibration grid pack)
set(may_include_layer ${base} matrix detail parallel calibration preprocess grid feedback quantize refine pack layer)

# Threads belong to the host: the headers that each adaptor in parallel/ needs for them, and that no other header may include. Nor may any
# include an adaptor.
set(threads_of_first_failure "atomic|mutex")
set(threads_of_thread_pool "atomic|condition_variable|mutex|thread")
set(threads_of_openmp "omp\\.h")
set(threads_of_tbb "tbb/.*")

file(GLOB_RECURSE headers RELATIVE ${include_dir}/magr ${include_dir}/magr/*.hpp)
foreach(header IN LISTS headers)
    file(STRINGS ${include_dir}/magr/${header} includes REGEX "^ *# *include")
    cmake_path(GET header PARENT_PATH folder)
    if(folder AND NOT DEFINED may_include_${folder})
        message(SEND_ERROR "${header}: the folder ${folder} has no place among the layers yet")
        continue()
    endif()
    foreach(include IN LISTS includes)
        string(REGEX REPLACE "^ *# *include *([<\"][^>\"]*[>\"]).*" "\\1" include "${include}")
        # Definitions are included at the end of the header that declares them; output_error.hpp shares those of output_meter.hpp.
        if(include MATCHES "_impl\\.hpp>$")
            string(REGEX REPLACE "^<magr/(.*)_impl\\.hpp>$" "\\1.hpp" declares "${include}")
            if(NOT header STREQUAL declares AND NOT header STREQUAL "calibration/output_error.hpp")
                message(SEND_ERROR "${header}: must include <magr/${declares}>, and leave ${include} to it")
            endif()
        endif()
        if(include MATCHES "^<magr/parallel/" AND NOT include MATCHES "/(executor|executor_ref|first_failure|observer_flow)\\.hpp>$")
            message(SEND_ERROR "${header}: must not know ${include}, the host chooses its executor")
        elseif(include MATCHES "^<(atomic|condition_variable|future|mutex|semaphore|thread|omp\\.h|tbb/.*)>$")
            cmake_path(GET header STEM name)
            if(NOT folder STREQUAL "parallel" OR NOT include MATCHES "^<(${threads_of_${name}})>$")
                message(SEND_ERROR "${header}: threads are not its business, it must not include ${include}")
            endif()
        elseif(include MATCHES "^<magr/([^/>]*)")
            set(part ${CMAKE_MATCH_1})
            if(NOT folder)
                continue()  # config, version and error are leaves, and umbrella headers include folders
            endif()
            if(NOT part IN_LIST may_include_${folder})
                message(SEND_ERROR "${header}: must not know ${include}")
            endif()
            # Headers that check arguments take an executor, and know nothing else about parallel loops.
            if(folder STREQUAL "detail" AND part STREQUAL "parallel" AND NOT include STREQUAL "<magr/parallel/executor_ref.hpp>")
                message(SEND_ERROR "${header}: must not know ${include}")
            endif()
            # Kernels see a matrix as a view and know nothing else about it.
            if(folder STREQUAL "kernels" AND part STREQUAL "matrix" AND NOT include STREQUAL "<magr/matrix/matrix_view.hpp>")
                message(SEND_ERROR "${header}: must not know ${include}")
            endif()
        elseif(folder MATCHES "^(simd|kernels)$")
            # Templates of the standard library or Eigen would be compiled for the instruction set of the kernel, under a name that does not
            # say so.
            if(NOT include MATCHES "^<(cstddef|cstdint|type_traits|concepts|limits|utility|xsimd/xsimd.hpp)>$")
                message(SEND_ERROR "${header}: a kernel must not include ${include}")
            endif()
        elseif(header STREQUAL "config.hpp" AND include STREQUAL "<xsimd/config/xsimd_config.hpp>")
            continue()  # macros alone
        elseif(NOT include MATCHES "^<(Eigen/(Core|Cholesky|QR|LU|Eigenvalues)|[a-z_]+)>$")
            message(SEND_ERROR "${header}: must not depend on ${include}")
        endif()
    endforeach()
endforeach()

list(LENGTH headers count)
if(count EQUAL 0)
    message(FATAL_ERROR "no header below ${include_dir}: this test looks at nothing")
endif()
