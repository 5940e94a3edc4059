// Symbol visibility. The library is compiled with hidden visibility; what crosses a library
// boundary is marked TENDRIL_API, everything else stays private and cannot collide with the
// embedder.
#pragma once

#define TENDRIL_API __attribute__((visibility("default")))

// Functors shared by CPU loops and CUDA kernels carry both attributes when nvcc compiles them.
#ifdef __CUDACC__
#define TENDRIL_HD __host__ __device__
#else
#define TENDRIL_HD
#endif
