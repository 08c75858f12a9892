// kernels.cu on the CPU.
#include "cuda.hpp"

#include "../cuda/kernels.cu"
