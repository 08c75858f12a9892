// What every kernel here and in balgrad-nn shares: the floats that gradients come in, and a grid of chunks over many tensors.
//
// `work` is one upload of 64-bit words (see table.rs), which starts with
//   chunks  [chunks]       slot << 32 | number of the chunk within its slot
//   lens    [slots]        elements of the slot
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef unsigned long long u64;

#define THREADS 256
#define CHUNK 65536
#define AT_ONCE 4

__device__ __forceinline__ double widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ double widen(__half x) { return __half2float(x); }
__device__ __forceinline__ double widen(__nv_bfloat16 x) { return __bfloat162float(x); }

// To nearest even, the 16-bit types by way of f32, as on the CPU.
__device__ __forceinline__ void narrow(float *out, double x) { *out = __double2float_rn(x); }
__device__ __forceinline__ void narrow(double *out, double x) { *out = x; }
__device__ __forceinline__ void narrow(__half *out, double x) { *out = __float2half_rn(__double2float_rn(x)); }
__device__ __forceinline__ void narrow(__nv_bfloat16 *out, double x) { *out = __float2bfloat16_rn(__double2float_rn(x)); }

// The elements of a slot that are this thread block's, and where the table of rows starts.
struct Chunk {
    unsigned slot;
    u64 start, end;
    const u64 *rest;
};
__device__ __forceinline__ Chunk chunk(const u64 *work, unsigned slots) {
    unsigned slot = work[blockIdx.x] >> 32;
    u64 start = (u64)(unsigned)work[blockIdx.x] * CHUNK;
    return {slot, start, min(start + CHUNK, work[gridDim.x + slot]), work + gridDim.x + slots};
}
