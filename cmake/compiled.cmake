# magr::compiled, a static library for those who would rather compile the library once than in every file that calls it. With it the headers
# only declare what it contains. Built if something links it. It has to be compiled for the same instruction set as what calls it: the
# linker finds nothing otherwise, because the functions are named after it. dispatch.cmake makes one library of several instruction sets.
file(GLOB magr_units CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/compiled/*.cpp)
add_library(magr_compiled STATIC EXCLUDE_FROM_ALL ${magr_units})
add_library(magr::compiled ALIAS magr_compiled)
set_target_properties(magr_compiled PROPERTIES EXPORT_NAME compiled POSITION_INDEPENDENT_CODE ON)
target_compile_definitions(magr_compiled PUBLIC MAGR_COMPILED)
target_link_libraries(magr_compiled PUBLIC magr PRIVATE $<BUILD_INTERFACE:$<TARGET_NAME_IF_EXISTS:magr_dev_flags>>)
if(MAGR_INSTALL_COMPILED)
    set_target_properties(magr_compiled PROPERTIES EXCLUDE_FROM_ALL OFF)
endif()
