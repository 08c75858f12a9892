// adamw.cu on the CPU.
#include "cuda.hpp"

#include "../cuda/adamw.cu"
