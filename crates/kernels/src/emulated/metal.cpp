// kernels.metal on the CPU: the Metal that it is written in, and its kernels under their host names.
#include "gpu.hpp"
#include <cmath>

#define device
#define constant const
#define threadgroup static

typedef unsigned uint;
typedef unsigned short ushort;
typedef _Float16 half;
struct float4 { float x, y, z, w; };
struct uint2 { uint x, y; };

namespace metal {
using std::fma;
enum mem_flags { mem_threadgroup };
static uint min(uint a, uint b) { return b < a ? b : a; }
static void threadgroup_barrier(mem_flags) { emulated::block.wait(emulated::THREADS); }
template <typename To, typename From>
static To as_type(From x) {
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
static float simd_sum(float x) {
    unsigned lane = emulated::current % emulated::WARP;
    for (unsigned step = 1; step < emulated::WARP; step *= 2) x += emulated::from_lane(x, lane ^ step);
    return x;
}
} // namespace metal

#include "../metal/kernels.metal"

static uint group;

#undef KERNELS
#define KERNELS(NAME, T)                                                                                            \
    extern "C" void gram_##NAME(const T *const rows[8], float *partial, uint len) {                                 \
        uint t = emulated::current, warp = emulated::WARP;                                                          \
        gram<T>(rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7], partial, len, group, t,     \
                t % warp, t / warp, emulated::THREADS / warp);                                                      \
    }                                                                                                               \
    extern "C" void blend_##NAME(const T *const rows[4], T *out, const float4 *coefficients, uint len, uint count) { \
        blend<T>(rows[0], rows[1], rows[2], rows[3], out, *coefficients, uint2{len, count},                         \
                 group * emulated::THREADS + emulated::current);                                                    \
    }
KERNELS(f32, float)
KERNELS(f16, half)
KERNELS(bf16, Brain)

extern "C" void launch(unsigned x, unsigned, unsigned seed, void (*body)(void *), void *argument) {
    emulated::seed = seed;
    emulated::body = body;
    emulated::argument = argument;
    for (group = 0; group < x; group++) emulated::run_block([](unsigned) {});
}
