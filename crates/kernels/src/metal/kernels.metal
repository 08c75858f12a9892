// gram and blend for one tensor of a block. Metal has no f64: a chunk's sums are f32, over so few elements that their error is
// a few units in the last place, and the host adds the chunks up in f64.
#include <metal_stdlib>
using namespace metal;

constant uint THREADS = 256;
constant uint CHUNK = 4096;

struct Brain { ushort bits; };

inline float widen(float x) { return x; }
inline float widen(half x) { return float(x); }
inline float widen(Brain x) { return as_type<float>(uint(x.bits) << 16); }

inline void narrow(device float *out, float x) { *out = x; }
inline void narrow(device half *out, float x) { *out = half(x); }
inline void narrow(device Brain *out, float x) {
    uint bits = as_type<uint>(x);
    bool nan = (bits & 0x7fffffff) > 0x7f800000;
    out->bits = ushort(nan ? (bits >> 16) | 0x40 : (bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// The 4 x 4 products of rows a with rows b over chunk `group`: partial[group * 16 + i * 4 + j].
template <typename T>
[[kernel]] void gram(
    device const T *a0 [[buffer(0)]], device const T *a1 [[buffer(1)]], device const T *a2 [[buffer(2)]],
    device const T *a3 [[buffer(3)]], device const T *b0 [[buffer(4)]], device const T *b1 [[buffer(5)]],
    device const T *b2 [[buffer(6)]], device const T *b3 [[buffer(7)]], device float *partial [[buffer(8)]],
    constant uint &len [[buffer(9)]], uint group [[threadgroup_position_in_grid]],
    uint thread_index [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
    uint simd [[simdgroup_index_in_threadgroup]], uint simds [[simdgroups_per_threadgroup]]) {
    threadgroup float sums[32][16]; // At most 32 simdgroups of at least 8 threads.
    float acc[16] = {};
    uint end = min((group + 1) * CHUNK, len);
    for (uint e = group * CHUNK + thread_index; e < end; e += THREADS) {
        float a[4] = {widen(a0[e]), widen(a1[e]), widen(a2[e]), widen(a3[e])};
        float b[4] = {widen(b0[e]), widen(b1[e]), widen(b2[e]), widen(b3[e])};
        for (uint i = 0; i < 4; i++)
            for (uint j = 0; j < 4; j++) acc[i * 4 + j] = fma(a[i], b[j], acc[i * 4 + j]);
    }
    for (uint n = 0; n < 16; n++) {
        float sum = simd_sum(acc[n]);
        if (lane == 0) sums[simd][n] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (thread_index < 16) {
        float sum = 0;
        for (uint s = 0; s < simds; s++) sum += sums[s][thread_index];
        partial[group * 16 + thread_index] = sum;
    }
}

// out = the sum of coefficients[i] * row i for i < rows. `out` may be row 0.
template <typename T>
[[kernel]] void blend(
    device const T *r0 [[buffer(0)]], device const T *r1 [[buffer(1)]], device const T *r2 [[buffer(2)]],
    device const T *r3 [[buffer(3)]], device T *out [[buffer(4)]], constant float4 &coefficients [[buffer(5)]],
    constant uint2 &len_rows [[buffer(6)]], uint e [[thread_position_in_grid]]) {
    if (e >= len_rows.x) return;
    float sum = coefficients.x * widen(r0[e]);
    if (len_rows.y > 1) sum += coefficients.y * widen(r1[e]);
    if (len_rows.y > 2) sum += coefficients.z * widen(r2[e]);
    if (len_rows.y > 3) sum += coefficients.w * widen(r3[e]);
    narrow(out + e, sum);
}

#define KERNELS(NAME, T)                                                        \
    template [[host_name("gram_" NAME)]] [[kernel]] decltype(gram<T>) gram<T>; \
    template [[host_name("blend_" NAME)]] [[kernel]] decltype(blend<T>) blend<T>;

KERNELS("f32", float)
KERNELS("f16", half)
KERNELS("bf16", Brain)
