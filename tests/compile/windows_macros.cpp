// SPDX-License-Identifier: MIT
// The macros of <windows.h>. The standard library, Eigen and xsimd come first, because protecting their headers is up to them.
#include <Eigen/Core>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <chrono>
#include <cmath>
#include <complex>
#include <concepts>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <exception>
#include <functional>
#include <limits>
#include <locale>
#include <memory>
#include <mutex>
#include <numeric>
#include <optional>
#include <ranges>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>
#ifndef MAGR_NO_XSIMD
#include <xsimd/xsimd.hpp>
#endif

#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define NEAR
#define FAR
#define small char
#define hyper long long
#define interface struct
#define cdecl
#define pascal
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define TRUE 1
#define FALSE 0
#define ERROR 0
#define NO_ERROR 0
#define STRICT 1
#define DELETE 0x00010000L
#define IGNORE 0
#define INFINITE 0xffffffff
#define ABSOLUTE 1
#define RELATIVE 2
#define TRANSPARENT 1
#define OPAQUE 2
#define DIFFERENCE 11
#define CALLBACK
#define WINAPI
#define EXTERN_C extern "C"
#define THIS void
#define THIS_ void,
#define MAX_PATH 260
#define GetMessage GetMessageA
#define GetObject GetObjectA
#define CreateFile CreateFileA
#define Yield()
#define ZeroMemory(to, count) 0
#define CopyMemory(to, from, count) 0
#define grp1 0x0430
#define rad1 0x0420
#define rct1 0x0438
#define lst1 0x0460
#define edt1 0x0480
#define stc1 0x0440
#define chx1 0x0410
#define s_addr S_un.S_addr
#define environ (*_environ())

#include <magr/magr.hpp>
#include <magr/parallel/callback.hpp>
#include <magr/parallel/thread_pool.hpp>

int main() {
    Eigen::MatrixXf W = Eigen::MatrixXf::Random(4, 32);
    Eigen::MatrixXd H = Eigen::MatrixXd::Identity(32, 32);
    const magr::quantized_matrix<float> q = magr::quantize_layer(W, H, {.preprocess = magr::preprocess_options{}}).quantized;
    static_cast<void>(magr::pack_mlx(q));
    static_cast<void>(magr::compensate_drift(W, H, H));
    static_cast<void>(magr::quantize_automatic(W, H, H));
    static_cast<void>(magr::fit_k_quant_grids(W, magr::ggml_type::q4_k));
    magr::prox_linf(W, 0.1);
}
