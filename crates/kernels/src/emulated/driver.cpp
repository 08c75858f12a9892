// A stand-in for CUDA's driver, and for as much of cuBLAS and cuRAND as opening a device takes: memory is the host's, kernels
// are those of kernels.cu and adamw.cu on the CPU. With it `cargo xtask ci --full` runs the host side of a launch on a machine without a GPU.
// It ends the process where memory that is not there is copied, set, or freed, and where an allocation was written past its end.
// What is called and stands not here is address 0: add it, and remove the test binaries that were linked without it.
#include "cuda.cpp"

#include "../../../nn/src/cuda/adamw.cu"

#include <iterator>
#include <map>
#include <mutex>
#include <string>

typedef unsigned long long Address;
constexpr size_t GUARD = 64;

static std::mutex lock;
static std::map<char *, size_t> live;

static void expect(bool condition, const char *message) {
    if (condition) return;
    fprintf(stderr, "stand-in for the CUDA driver: %s\n", message);
    abort();
}

static void expect_live(Address start, size_t len) {
    std::lock_guard<std::mutex> guard(lock);
    auto next = live.upper_bound((char *)start);
    expect(len == 0 || (next != live.begin() && (char *)start + len <= std::prev(next)->first + std::prev(next)->second),
           "not memory of the device");
}

typedef void (*Gram)(const u64 *, unsigned, unsigned, double *);
typedef void (*Finish)(const double *, unsigned, unsigned, double *);
typedef void (*Blend)(const u64 *, unsigned, unsigned);
typedef void (*AdamW)(const u64 *, unsigned, double, double, double);
struct Function {
    const char *name;
    Gram gram;
    Finish finish;
    Blend blend;
    AdamW adamw;
};
static Function functions[] = {
    {"gram_f32", gram_f32}, {"gram_f64", gram_f64}, {"gram_f16", gram_f16}, {"gram_bf16", gram_bf16},
    {"gram_finish", nullptr, gram_finish},
    {"blend_f32", nullptr, nullptr, blend_f32}, {"blend_f64", nullptr, nullptr, blend_f64},
    {"blend_f16", nullptr, nullptr, blend_f16}, {"blend_bf16", nullptr, nullptr, blend_bf16},
    {"adamw_f32", nullptr, nullptr, nullptr, adamw_f32}, {"adamw_f64", nullptr, nullptr, nullptr, adamw_f64},
    {"adamw_f16", nullptr, nullptr, nullptr, adamw_f16}, {"adamw_bf16", nullptr, nullptr, nullptr, adamw_bf16},
};

struct Call {
    Function *function;
    void **arguments;
    template <typename T> T argument(int i) { return *(T *)arguments[i]; }
};

static void run(void *argument) {
    Call &call = *(Call *)argument;
    unsigned a = call.argument<unsigned>(1);
    if (call.function->adamw)
        return call.function->adamw(call.argument<const u64 *>(0), a, call.argument<double>(2), call.argument<double>(3),
                                    call.argument<double>(4));
    unsigned b = call.argument<unsigned>(2);
    if (call.function->gram) call.function->gram(call.argument<const u64 *>(0), a, b, call.argument<double *>(3));
    if (call.function->finish) call.function->finish(call.argument<const double *>(0), a, b, call.argument<double *>(3));
    if (call.function->blend) call.function->blend(call.argument<const u64 *>(0), a, b);
}

#define OK(NAME, ...) int NAME(__VA_ARGS__) { return 0; }
#define GIVE(NAME, TYPE, VALUE, ...) int NAME(TYPE *out, ##__VA_ARGS__) { *out = (TYPE)VALUE; return 0; }

extern "C" {
OK(cuInit, unsigned)
GIVE(cuDeviceGet, int, 0, int)
GIVE(cuDeviceGetCount, int, 1)
GIVE(cuDeviceGetAttribute, int, 1, int, int)
GIVE(cuDevicePrimaryCtxRetain, void *, 1, int)
OK(cuDevicePrimaryCtxRelease_v2, int)
OK(cuCtxSetCurrent, void *)
GIVE(cuCtxGetCurrent, void *, 1)
GIVE(cuStreamCreate, void *, 1, unsigned)
OK(cuStreamDestroy_v2, void *)
OK(cuStreamSynchronize, void *)
OK(cuStreamWaitEvent, void *, void *, unsigned)
int cuStreamIsCapturing(void *, int *capturing) { return *capturing = 0; }
GIVE(cuEventCreate, void *, 1, unsigned)
OK(cuEventDestroy_v2, void *)
OK(cuEventRecord, void *, void *)
GIVE(cuGetErrorName, const char *, "an error", int)
GIVE(cuGetErrorString, const char *, "an error of the stand-in", int)
GIVE(cublasCreate_v2, void *, 1)
OK(cublasDestroy_v2, void *)
OK(cublasSetStream_v2, void *, void *)
OK(cublasSetMathMode, void *, int)
GIVE(curandCreateGenerator, void *, 1, int)
OK(curandDestroyGenerator, void *)
OK(curandSetPseudoRandomGeneratorSeed, void *, unsigned long long)
OK(curandSetStream, void *, void *)

// What nvcc has each object call before main.
void **__cudaRegisterFatBinary(void *) { static void *handle; return &handle; }
void __cudaRegisterFatBinaryEnd(void **) {}
void __cudaUnregisterFatBinary(void **) {}
OK(__cudaRegisterFunction, void)
OK(__cudaRegisterVar, void)

int cuMemAllocAsync(Address *out, size_t len, void *) {
    char *start = (char *)malloc(len + GUARD);
    memset(start, 0xff, len + GUARD);
    std::lock_guard<std::mutex> guard(lock);
    live[start] = len;
    *out = (Address)start;
    return 0;
}
int cuMemFreeAsync(Address address, void *) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = live.find((char *)address);
    expect(found != live.end(), "freed memory is not the device's");
    auto [start, len] = *found;
    for (size_t i = 0; i < GUARD; i++) expect((unsigned char)start[len + i] == 0xff, "written past the end");
    memset(start, 0xff, len);
    live.erase(found);
    free(start);
    return 0;
}
int cuMemsetD8Async(Address to, unsigned char value, size_t len, void *) {
    expect_live(to, len);
    memset((void *)to, value, len);
    return 0;
}
int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t len, void *) {
    expect_live(to, len);
    memcpy((void *)to, from, len);
    return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t len, void *) {
    expect_live(from, len);
    memcpy(to, (void *)from, len);
    return 0;
}
int cuMemcpyDtoDAsync_v2(Address to, Address from, size_t len, void *) {
    expect_live(to, len);
    expect_live(from, len);
    memcpy((void *)to, (void *)from, len);
    return 0;
}
GIVE(cuModuleLoadData, void *, 1, const void *)
OK(cuModuleUnload, void *)
int cuModuleGetFunction(void **out, void *, const char *name) {
    for (Function &function : functions)
        if (!strcmp(function.name, name)) return *out = &function, 0;
    return 500; // CUDA_ERROR_NOT_FOUND
}
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared, void *, void **arguments, void **) {
    expect(x > 0 && y > 0 && y < 65536 && z == 1, "the grid");
    expect(threads == THREADS && threads_y == 1 && threads_z == 1 && shared == 0, "the block");
    static std::mutex turn;
    static unsigned count;
    std::lock_guard<std::mutex> guard(turn);
    Call call{(Function *)function, arguments};
    launch(x, y, count++ % 2, run, &call);
    return 0;
}
}
