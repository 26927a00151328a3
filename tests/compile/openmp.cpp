#include <magr/parallel/openmp.hpp>
