// A step of AdamW over all parameters of a dtype, in one launch. Compiled to PTX by build.rs, which tells nvcc to round a product
// before it is added: the bits are the CPU's.
//
// `work` (see common.cuh) goes on with gradients, parameters, first and second moments, each [slots] pointers, and numbers
// [slots, 3] as f64: what of the parameter is kept, the rate, and what corrects the second moment's bias.
#include "common.cuh"

// T of gradients and parameters, M of the moments and the arithmetic.
template <typename T, typename M>
__device__ void adamw(const u64 *work, unsigned slots, double beta1, double beta2, double eps) {
    auto [slot, start, end, rest] = chunk(work, slots);
    const T *gradient = (const T *)rest[slot];
    T *parameter = (T *)rest[slots + slot];
    M *first = (M *)rest[2 * slots + slot], *second = (M *)rest[3 * slots + slot];
    const double *numbers = (const double *)(rest + 4 * slots) + (u64)slot * 3;
    M keep = numbers[0], rate = numbers[1], unbias = numbers[2];
    M decay1 = beta1, gain1 = 1.0 - beta1, decay2 = beta2, gain2 = 1.0 - beta2, small = eps;
    for (u64 e = start + threadIdx.x; e < end; e += AT_ONCE * THREADS) {
        M gradients[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) gradients[u] = e + u * THREADS < end ? widen(gradient[e + u * THREADS]) : 0.0;
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            u64 at = e + u * THREADS;
            if (at >= end) continue;
            M g = gradients[u], p = widen(parameter[at]);
            M m = first[at] * decay1 + g * gain1, v = second[at] * decay2 + g * g * gain2;
            first[at] = m;
            second[at] = v;
            narrow(parameter + at, p * keep - m * rate / (sqrt(v * unbias) + small));
        }
    }
}

#define KERNEL(NAME, T, M)                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS)                                               \
    adamw_##NAME(const u64 *work, unsigned slots, double beta1, double beta2, double eps) {             \
        adamw<T, M>(work, slots, beta1, beta2, eps);                                                    \
    }

KERNEL(f32, float, float)
KERNEL(f64, double, double)
KERNEL(f16, __half, float)
KERNEL(bf16, __nv_bfloat16, float)
