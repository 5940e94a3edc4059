// The sums of cuBLASLt's products, on the CPU.
#pragma once

#include <cstdint>

#include "include/cublasLt.h"

namespace emulated {

/// A column-major matrix or a batch of them, distances in elements.
struct Matrix {
  int64_t ld = 0, batch_stride = 0;
  const void* data = nullptr;
};

/// D (m, n) = epilogue(alpha op(A) (m, k) op(B) (k, n) + beta C), for each matrix of a batch.
struct Product {
  cudaDataType_t in, out;  // of A and B; of C, D, the bias and aux
  int64_t m, n, k, batch;
  Matrix a, b, c;
  bool transpose_a, transpose_b;
  void* d;
  int64_t d_ld, d_batch_stride;
  double alpha, beta;
  bool tf32;  // f32 operands are rounded to 11 significant bits
  cublasLtEpilogue_t epilogue;
  const void* bias;  // m numbers
  void* aux;
  int64_t aux_ld, aux_batch_stride;
  bool backward;  // sums from the last term to the first: other bits
};

/// Sums run in f32, for f64 in f64, from the first term to the last unless told otherwise: the bits do not depend on the
/// number of threads.
void multiply(const Product& product);

}  // namespace emulated
