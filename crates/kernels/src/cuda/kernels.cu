// gram and blend over all tensors of a block, in one launch each. Compiled to PTX by build.rs, which tells nvcc to round a
// product before it is added: the bits are the CPU's.
//
// `work` (see common.cuh) goes on with
//   rows    [slots, k]     pointer to row i's gradient, 0 where it has none
//   then, for blend: outs [slots] pointers, and coefficients [k] as f64
//
// Sums run in f64 in an order told by the shapes alone: the result has the same bits on every run.
#include "common.cuh"

#define TILE 4

// The sum over a thread block, in a fixed tree; right in thread 0.
__device__ double block_sum(double x) {
    __shared__ double warps[THREADS / 32];
    for (int step = 16; step > 0; step /= 2) x += __shfl_down_sync(0xffffffffu, x, step);
    __syncthreads();
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
    __syncthreads();
    if (threadIdx.x < 32) {
        x = threadIdx.x < THREADS / 32 ? warps[threadIdx.x] : 0.0;
        for (int step = THREADS / 64; step > 0; step /= 2) x += __shfl_down_sync(0xffffffffu, x, step);
    }
    return x;
}

// The products of rows x with rows y over the elements from `start` to `end`, `DIAGONAL` where the two are the same rows and
// the upper triangle is enough. Unrolled, so that each thread has enough loads under way to hide the memory's latency.
template <bool DIAGONAL, typename T>
__device__ __forceinline__ void products(const T *const x[TILE], const T *const y[TILE], u64 start, u64 end,
                                         double sums[TILE][TILE]) {
#pragma unroll(DIAGONAL ? 4 : 2)
    for (u64 e = start + threadIdx.x; e < end; e += THREADS) {
        double p[TILE], q[TILE];
#pragma unroll
        for (int i = 0; i < TILE; i++) p[i] = x[i] ? widen(x[i][e]) : 0.0;
#pragma unroll
        for (int j = 0; j < TILE; j++) q[j] = DIAGONAL ? p[j] : y[j] ? widen(y[j][e]) : 0.0;
#pragma unroll
        for (int i = 0; i < TILE; i++)
#pragma unroll
            for (int j = DIAGONAL ? i : 0; j < TILE; j++)
                // A missing row would spread a NaN as 0 * NaN.
                if (x[i] && (DIAGONAL ? x[j] : y[j])) sums[i][j] = fma(p[i], q[j], sums[i][j]);
    }
}

// Block (c, p): the products of chunk c for pair p of tiles, p counting the upper triangle of tiles row by row.
// partial[(i * k + j) * chunks + c], the upper triangle alone.
template <typename T>
__device__ void gram(const u64 *work, unsigned k, unsigned slots, double *partial) {
    unsigned chunks = gridDim.x, tiles = (k + TILE - 1) / TILE, a = 0, b = blockIdx.y;
    while (b >= tiles - a) b -= tiles - a++;
    b += a;
    auto [slot, start, end, rest] = chunk(work, slots);
    const T *const *rows = (const T *const *)rest + (u64)slot * k;
    const T *x[TILE], *y[TILE];
    for (unsigned i = 0; i < TILE; i++) {
        x[i] = a * TILE + i < k ? rows[a * TILE + i] : nullptr;
        y[i] = b * TILE + i < k ? rows[b * TILE + i] : nullptr;
    }
    double sums[TILE][TILE] = {};
    if (a == b) products<true>(x, x, start, end, sums);
    else products<false>(x, y, start, end, sums);
#pragma unroll
    for (int i = 0; i < TILE; i++)
#pragma unroll
        for (int j = 0; j < TILE; j++) {
            unsigned row = a * TILE + i, column = b * TILE + j;
            if (row < k && column < k && row <= column) {
                double sum = block_sum(sums[i][j]);
                if (threadIdx.x == 0) partial[(u64)(row * k + column) * chunks + blockIdx.x] = sum;
            }
        }
}

// Block (j, i): entry [i, j] of the result from its partial sums, the lower triangle by symmetry.
extern "C" __global__ void gram_finish(const double *partial, unsigned k, unsigned chunks, double *out) {
    unsigned i = min(blockIdx.x, blockIdx.y), j = max(blockIdx.x, blockIdx.y);
    double sum = 0.0;
    for (unsigned c = threadIdx.x; c < chunks; c += THREADS) sum += partial[(u64)(i * k + j) * chunks + c];
    sum = block_sum(sum);
    if (threadIdx.x == 0) out[blockIdx.y * k + blockIdx.x] += sum;
}

// The sums over rows, in row order, of their elements from e on, AT_ONCE to a thread so that as many loads are under way.
template <typename T>
__device__ __forceinline__ void weigh(const T *const *rows, const double *coefficients, unsigned k, u64 e, u64 end,
                                      double sums[AT_ONCE]) {
    bool first = true;
    for (unsigned i = 0; i < k; i++) {
        const T *row = rows[i];
        if (!row) continue;
        double coefficient = coefficients[i], values[AT_ONCE];
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) values[u] = e + u * THREADS < end ? widen(row[e + u * THREADS]) : 0.0;
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++) {
            double product = coefficient * values[u];
            sums[u] = first ? product : sums[u] + product;
        }
        first = false;
    }
}

template <typename T>
__device__ void blend(const u64 *work, unsigned k, unsigned slots) {
    auto [slot, start, end, rest] = chunk(work, slots);
    const T *const *rows = (const T *const *)rest + (u64)slot * k;
    T *out = (T *)rest[(u64)slots * k + slot];
    const double *coefficients = (const double *)(rest + (u64)slots * k + slots);
    for (u64 e = start + threadIdx.x; e < end; e += AT_ONCE * THREADS) {
        double sums[AT_ONCE] = {};
        weigh(rows, coefficients, k, e, end, sums);
#pragma unroll
        for (int u = 0; u < AT_ONCE; u++)
            if (e + u * THREADS < end) narrow(out + e + u * THREADS, sums[u]);
    }
}

#define KERNELS(NAME, T)                                                                                          \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                      \
    gram_##NAME(const u64 *work, unsigned k, unsigned slots, double *partial) { gram<T>(work, k, slots, partial); } \
    extern "C" __global__ void __launch_bounds__(THREADS)                                                         \
    blend_##NAME(const u64 *work, unsigned k, unsigned slots) { blend<T>(work, k, slots); }

KERNELS(f32, float)
KERNELS(f64, double)
KERNELS(f16, __half)
KERNELS(bf16, __nv_bfloat16)
