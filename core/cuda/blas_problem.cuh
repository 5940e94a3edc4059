// A product as cuBLASLt is told of it. Private to core/cuda/blas*.cu.
#pragma once

#include <utility>

#include <tendril/core/cuda/blas.cuh>
#include <tendril/core/cuda/cublaslt.cuh>

namespace tendril::cuda {

/// Throws an Error that names `what` and the product.
inline void check(cublasStatus_t status, const char* what, const BlasProduct& p) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail("[", p.op, "] ", what, " failed: ", cublaslt().status_text(status), "; got ", p.batch,
       " x (", p.m, ", ", p.k, ") x (", p.k, ", ", p.n, ") ", p.in, " -> ", p.out);
}

inline cudaDataType_t data_type(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return CUDA_R_64F;
    case DType::f32:
      return CUDA_R_32F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f16:
      return CUDA_R_16F;
    default:
      fail("[blas] needs a floating-point dtype; got ", dtype);
  }
}

inline cublasComputeType_t compute_type(DType in, bool tf32) {
  if (in == f64) return CUBLAS_COMPUTE_64F;
  return in == f32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

inline cublasLtEpilogue_t epilogue(const BlasProduct& p) {
  switch (p.epilogue) {
    case Epilogue::gelu:
      return p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case Epilogue::gelu_gradient:
      return CUBLASLT_EPILOGUE_DGELU;
    default:
      return p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

/// cuBLASLt's matrices are column-major: its D (N, M) = op(B) op(A) is our C, where a row-major
/// operand is one that need not be transposed. Its descriptors live on the stack.
class BlasProblem {
 public:
  BlasProblem(const BlasProduct& p, bool tf32) : p_(p) {
    const cudaDataType_t scale = p.in == f64 ? CUDA_R_64F : CUDA_R_32F;
    check(lt_.init_operation(&operation_, sizeof operation_, compute_type(p.in, tf32), scale),
          "descriptor", p);
    if (p.b.column_major) set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (p.a.column_major) set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_T);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue(p));
    if (p.bias) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    if (p.epilogue != Epilogue::none) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.aux);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.c.ld);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, p.c.batch_stride);
    }
    init(a_, p.a, p.in, p.m, p.k);
    init(b_, p.b, p.in, p.k, p.n);
    init(c_, p.c, p.out, p.m, p.n);
  }

  cublasLtMatmulDesc_t operation() { return &operation_; }
  cublasLtMatrixLayout_t a() { return &a_; }
  cublasLtMatrixLayout_t b() { return &b_; }
  cublasLtMatrixLayout_t c() { return &c_; }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(lt_.set_operation(&operation_, attribute, &value, sizeof value),
          "cublasLtMatmulDescSetAttribute", p_);
  }

  void init(cublasLtMatrixLayoutOpaque_t& layout, const BlasMatrix& x, DType dtype, int64_t rows,
            int64_t columns) {
    if (!x.column_major) std::swap(rows, columns);
    check(lt_.init_layout(&layout, sizeof layout, data_type(dtype), static_cast<uint64_t>(rows),
                          static_cast<uint64_t>(columns), x.ld),
          "layout", p_);
    if (p_.batch == 1) return;
    const auto count = static_cast<int32_t>(p_.batch);
    check(lt_.set_layout(&layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
          "batch count", p_);
    check(lt_.set_layout(&layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &x.batch_stride,
                         sizeof x.batch_stride),
          "batch stride", p_);
  }

  const BlasProduct& p_;
  const CublasLt& lt_ = cublaslt();
  cublasLtMatmulDescOpaque_t operation_;
  cublasLtMatrixLayoutOpaque_t a_, b_, c_;
};

/// How a product is computed.
struct BlasChoice {
  bool found = false;
  cublasLtMatmulAlgo_t algorithm;
  int64_t workspace = 0;
};

/// Queues the product; it reads C (when it accumulates) where `p` says and writes it to `out`.
void run_product(const BlasProduct& p, BlasProblem& problem, const BlasChoice& choice, void* out);

/// Whether the choice for a product is worth measuring.
bool is_worth_tuning(const BlasProduct& p);

/// The fastest of the choices that give the same bits as the first, measured on operands of its own;
/// with the GELU epilogue aux is written. Waits for the device.
BlasChoice fastest_choice(const BlasProduct& p, BlasProblem& problem, const BlasChoice* choices,
                          int count);

}  // namespace tendril::cuda
