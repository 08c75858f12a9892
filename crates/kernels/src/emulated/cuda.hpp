// The CUDA that kernels are written in, on the CPU, and a launch.
#pragma once
#include "gpu.hpp"
#include <cmath>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 { unsigned x, y, z; };
static dim3 threadIdx, blockIdx, gridDim;

static void __syncthreads() { emulated::block.wait(emulated::THREADS); }
template <typename T>
static T __shfl_down_sync(unsigned, T x, unsigned step) {
    unsigned lane = emulated::current % emulated::WARP;
    return emulated::from_lane(x, lane + step < emulated::WARP ? lane + step : lane);
}
template <typename T>
static T min(T a, T b) { return b < a ? b : a; }
template <typename T>
static T max(T a, T b) { return a < b ? b : a; }
static float __double2float_rn(double x) { return (float)x; }
using std::fma;
using std::sqrt;

extern "C" void launch(unsigned x, unsigned y, unsigned seed, void (*body)(void *), void *argument) {
    emulated::seed = seed;
    emulated::body = body;
    emulated::argument = argument;
    gridDim = {x, y, 1};
    for (unsigned b = 0; b < x * y; b++) {
        blockIdx = {b % x, b / x, 0};
        emulated::run_block([](unsigned thread) { threadIdx = {thread, 0, 0}; });
    }
}
