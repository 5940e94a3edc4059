// cuBLASLt of the emulated GPU: descriptions of products and what of them is allowed. Arguments
// that the documentation of the real library forbids are refused here too.
#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstring>
#include <new>

#include <tendril/core/cuda/cublaslt.cuh>

#include "emulated.h"
#include "gemm.h"
#include "memory.h"
#include "streams.h"

struct cublasLtContext {};

namespace {

constexpr uint64_t kMark = 0x456D756C61746564;  // of an algorithm that the heuristic chose

template <class T>
cublasStatus_t take(T& field, const void* value, size_t size) {
  if (!value || size != sizeof field) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&field, value, size);
  return CUBLAS_STATUS_SUCCESS;
}

// Begins a description in memory of the caller's that must be large enough.
template <class T>
cublasStatus_t begin(T* description, size_t size, const T& initial) {
  if (!description || size < sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  new (description) T(initial);
  return CUBLAS_STATUS_SUCCESS;
}

size_t element_size(cudaDataType_t type) {
  return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

bool aligned(const void* pointer, uint32_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

// ---------------------------------------------------------------- what is allowed

struct Call {
  const cublasLtMatmulDescOpaque_t& operation;
  const cublasLtMatrixLayoutOpaque_t &a, &b, &c, &d;

  uint64_t terms() const { return operation.transpose_a ? a.rows : a.columns; }

  bool shapes_fit() const {
    const uint64_t m = operation.transpose_a ? a.columns : a.rows;
    const uint64_t n = operation.transpose_b ? b.rows : b.columns;
    const uint64_t b_terms = operation.transpose_b ? b.columns : b.rows;
    bool fit = m > 0 && n > 0 && terms() > 0 && b_terms == terms() && d.rows == m &&
               d.columns == n && c.rows == m && c.columns == n;
    for (const auto* x : {&a, &b, &c, &d})
      fit = fit && x->ld >= static_cast<int64_t>(x->rows) && x->batch == d.batch && x->batch > 0;
    // The matrices of a batch of results must not lie over each other.
    return fit && (d.batch == 1 || d.batch_stride != 0);
  }

  bool types_fit() const {
    if (a.type != b.type || c.type != d.type) return false;
    const bool sums_in_f32 =
        operation.compute == CUBLAS_COMPUTE_32F && operation.scale == CUDA_R_32F;
    switch (a.type) {
      case CUDA_R_64F:
        return operation.compute == CUBLAS_COMPUTE_64F && operation.scale == CUDA_R_64F &&
               d.type == CUDA_R_64F;
      case CUDA_R_32F:
        return (sums_in_f32 || (operation.compute == CUBLAS_COMPUTE_32F_FAST_TF32 &&
                                operation.scale == CUDA_R_32F)) &&
               d.type == CUDA_R_32F;
      default:
        return sums_in_f32 && (d.type == a.type || d.type == CUDA_R_32F);
    }
  }

  bool epilogue_fits() const {
    const auto epilogue = operation.epilogue;
    // None for f64: core/cuda/product.cu then adds the bias by itself, and that must be run too.
    if (a.type == CUDA_R_64F) return epilogue == CUBLASLT_EPILOGUE_DEFAULT;
    const bool reads_bias =
        epilogue == CUBLASLT_EPILOGUE_BIAS || epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    if (reads_bias && (!operation.bias || !aligned(operation.bias, 16))) return false;
    if (epilogue == CUBLASLT_EPILOGUE_DEFAULT || epilogue == CUBLASLT_EPILOGUE_BIAS) return true;
    return operation.aux && aligned(operation.aux, 16) && operation.aux_ld % 8 == 0 &&
           operation.aux_ld >= static_cast<int64_t>(d.rows) && operation.aux_batch_stride % 8 == 0;
  }

  cublasStatus_t status() const {
    if (!shapes_fit()) return CUBLAS_STATUS_INVALID_VALUE;
    return types_fit() && epilogue_fits() ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
  }

  // Long sums take the partial sums' room, as a split along K would, if they may have it.
  uint64_t workspace(const cublasLtMatmulPreferenceOpaque_t& preference) const {
    const uint64_t wanted = d.rows * d.columns * static_cast<uint64_t>(d.batch) * 4;
    const bool may = preference.reduction_schemes & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    return may && terms() >= 256 && wanted <= preference.workspace ? wanted : 0;
  }
};

double number(const void* value, cudaDataType_t type) {
  return type == CUDA_R_64F ? *static_cast<const double*>(value)
                            : static_cast<double>(*static_cast<const float*>(value));
}

emulated::Matrix matrix(const cublasLtMatrixLayoutOpaque_t& layout, const void* data) {
  return {layout.ld, layout.batch_stride, data};
}

}  // namespace

// ---------------------------------------------------------------- the library

size_t cublasLtGetVersion() { return CUBLAS_VER_MAJOR * 10000; }

const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "the library was not initialized";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "an argument has an invalid value";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "not supported by the emulated GPU";
  }
  return "unknown status";
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  static cublasLtContext context;
  if (!handle) return CUBLAS_STATUS_INVALID_VALUE;
  *handle = &context;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  return begin(operation, size,
               {compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr,
                nullptr, 0, 0});
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t size) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(operation->transpose_a, value, size);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(operation->transpose_b, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(operation->epilogue, value, size);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(operation->bias, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return take(operation->aux, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return take(operation->aux_ld, value, size);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE:
      return take(operation->aux_batch_stride, value, size);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t ld) {
  return begin(layout, size, {type, rows, columns, ld, 1, 0});
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t size) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT:
      return take(layout->batch, value, size);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET:
      return take(layout->batch_stride, value, size);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

// Pointers are taken to be aligned to 256 bytes unless the caller says otherwise.
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t size) {
  return begin(preference, size, {0, ~0u, {256, 256, 256, 256}});
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t size) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(preference->workspace, value, size);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(preference->reduction_schemes, value, size);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(preference->alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES],
                  value, size);
  }
  return CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle,
                                              cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* returned) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (requested < 1 || !results || !returned) return CUBLAS_STATUS_INVALID_VALUE;
  *returned = 0;
  const Call call{*operation, *a, *b, *c, *d};
  if (const cublasStatus_t status = call.status(); status != CUBLAS_STATUS_SUCCESS) return status;
  const size_t in = element_size(a->type), out = element_size(d->type);
  const size_t least[] = {in, in, out, out};
  for (size_t i = 0; i < 4; ++i)
    if (!std::has_single_bit(preference->alignment[i]) || preference->alignment[i] < least[i])
      return CUBLAS_STATUS_NOT_SUPPORTED;
  cublasLtMatmulAlgo_t algorithm{kMark, call.workspace(*preference), {}, 0, 0};
  std::copy_n(preference->alignment, 4, algorithm.alignment);
  for (*returned = 0; *returned < std::min(requested, 4); ++*returned) {
    algorithm.variant = *returned;
    algorithm.delay = requested > 1 && algorithm.variant < 2 ? 2 - algorithm.variant : 0;
    results[*returned] = {algorithm, static_cast<size_t>(algorithm.workspace),
                          CUBLAS_STATUS_SUCCESS};
  }
  return CUBLAS_STATUS_SUCCESS;
}

static std::atomic<int> last_variant = 0;

int emulatedVariantOfLastProduct() { return last_variant; }

static bool is_of_another_gpu(const void* data, cudaStream_t stream) {
  const int owner = emulated::owner_of(data);
  return owner >= 0 && owner != emulated::device_of(stream);
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* a_data, cublasLtMatrixLayout_t a,
                              const void* b_data, cublasLtMatrixLayout_t b, const void* beta,
                              const void* c_data, cublasLtMatrixLayout_t c, void* d_data,
                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algorithm,
                              void* workspace, size_t workspace_size, cudaStream_t stream) {
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Call call{*operation, *a, *b, *c, *d};
  if (const cublasStatus_t status = call.status(); status != CUBLAS_STATUS_SUCCESS) return status;
  const void* const pointers[] = {a_data, b_data, c_data, d_data};
  if (!algorithm || algorithm->mark != kMark) return CUBLAS_STATUS_INVALID_VALUE;
  for (size_t i = 0; i < 4; ++i)
    if (!pointers[i] || !aligned(pointers[i], algorithm->alignment[i]) ||
        is_of_another_gpu(pointers[i], stream))
      return CUBLAS_STATUS_INVALID_VALUE;
  const size_t needed = algorithm->workspace;
  if (workspace_size < needed || (needed > 0 && (!workspace || !aligned(workspace, 16))))
    return CUBLAS_STATUS_INVALID_VALUE;

  if (algorithm->variant == 3) return CUBLAS_STATUS_NOT_SUPPORTED;
  emulated::Product product{};
  product.backward = algorithm->variant == 2;
  last_variant = algorithm->variant;
  product.in = a->type, product.out = d->type;
  product.m = static_cast<int64_t>(d->rows), product.n = static_cast<int64_t>(d->columns);
  product.k = static_cast<int64_t>(call.terms()), product.batch = d->batch;
  product.a = matrix(*a, a_data), product.b = matrix(*b, b_data), product.c = matrix(*c, c_data);
  product.transpose_a = operation->transpose_a == CUBLAS_OP_T;
  product.transpose_b = operation->transpose_b == CUBLAS_OP_T;
  product.d = d_data, product.d_ld = d->ld, product.d_batch_stride = d->batch_stride;
  product.alpha = number(alpha, operation->scale), product.beta = number(beta, operation->scale);
  product.tf32 = operation->compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  product.epilogue = operation->epilogue, product.bias = operation->bias;
  product.aux = operation->aux, product.aux_ld = operation->aux_ld;
  product.aux_batch_stride = operation->aux_batch_stride;
  emulated::submit(stream, [product, workspace, needed, delay = algorithm->delay] {
    emulated::pretend_to_take(std::chrono::seconds(delay));
    if (needed > 0) std::memset(workspace, 0xFF, needed);  // whoever shares it shall notice
    emulated::multiply(product);
  });
  return CUBLAS_STATUS_SUCCESS;
}

// core/cuda/cublaslt.cu, which opens NVIDIA's library, is not built.
const tendril::cuda::CublasLt& tendril::cuda::cublaslt() {
#define TENDRIL_TAKE(member, function) .member = ::function,
  static const CublasLt table = {TENDRIL_CUBLASLT_FUNCTIONS(TENDRIL_TAKE)};
#undef TENDRIL_TAKE
  return table;
}
