#include <tendril/core/cuda/blas.cuh>

#include <array>
#include <mutex>
#include <unordered_map>

#include <tendril/core/cuda/cublaslt.cuh>

namespace tendril::cuda {
namespace {

// One block of this size per stream: the caching allocator gives every product the same one.
constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;

void check(cublasStatus_t status, const char* what, const BlasProduct& p) {
  if (status == CUBLAS_STATUS_SUCCESS) [[likely]]
    return;
  fail("[", p.op, "] ", what, " failed: ", cublaslt().status_text(status), "; got ", p.batch,
       " x (", p.m, ", ", p.k, ") x (", p.k, ", ", p.n, ") ", p.in, " -> ", p.out);
}

// Never destroyed: products may run until the last static destructor.
cublasLtHandle_t handle(const BlasProduct& p) {
  constexpr int kMostDevices = 16;
  static auto* once = new std::array<std::once_flag, kMostDevices>;
  static auto* handles = new std::array<cublasLtHandle_t, kMostDevices>{};
  const auto index = static_cast<size_t>(p.device.index);
  std::call_once((*once)[index],
                 [&] { check(cublaslt().create(&(*handles)[index]), "cublasLtCreate", p); });
  return (*handles)[index];
}

cudaDataType_t data_type(DType dtype) {
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

cublasComputeType_t compute_type(DType in, bool tf32) {
  if (in == f64) return CUBLAS_COMPUTE_64F;
  return in == f32 && tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
}

cublasLtEpilogue_t epilogue(const BlasProduct& p) {
  switch (p.epilogue) {
    case Epilogue::gelu:
      return p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case Epilogue::gelu_gradient:
      return CUBLASLT_EPILOGUE_DGELU;
    default:
      return p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

// cuBLASLt's matrices are column-major: its D (N, M) = op(B) op(A) is our C, where a row-major
// operand is one that need not be transposed. Its descriptors live on the stack.
class Problem {
 public:
  Problem(const BlasProduct& p, bool tf32) : p_(p) {
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

// ---------------------------------------------------------------- choosing an algorithm

// The power of two, at most 16, that divides the address: no kernel's accesses are wider.
uint32_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return static_cast<uint32_t>((address | 16) & (~(address | 16) + 1));
}

struct Choice {
  bool found = false;
  cublasLtMatmulAlgo_t algorithm;
  int64_t workspace = 0;
};

Choice choose(const BlasProduct& p, Problem& problem) {
  const CublasLt& lt = cublaslt();
  cublasLtMatmulPreferenceOpaque_t preference;
  check(lt.init_preference(&preference, sizeof preference), "cublasLtMatmulPreferenceInit", p);
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
    check(lt.set_preference(&preference, attribute, &value, sizeof value),
          "cublasLtMatmulPreferenceSetAttribute", p);
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kWorkspaceBytes));
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
         static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment(p.b.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment(p.a.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment(p.c.data));
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment(p.c.data));
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  const cublasStatus_t status = lt.choose(handle(p), problem.operation(), problem.b(), problem.a(),
                                          problem.c(), problem.c(), &preference, 1, &best, &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) return {};
  check(status, "cublasLtMatmulAlgoGetHeuristic", p);
  if (count == 0 || best.state != CUBLAS_STATUS_SUCCESS) return {};
  return {true, best.algo, static_cast<int64_t>(best.workspaceSize)};
}

// All that the choice depends on.
using Key = std::array<int64_t, 13>;

struct KeyHash {
  size_t operator()(const Key& key) const {
    uint64_t hash = 0xCBF29CE484222325u;
    for (const int64_t value : key) {
      hash = (hash ^ static_cast<uint64_t>(value)) * 0x9E3779B97F4A7C15u;
      hash ^= hash >> 32;
    }
    return static_cast<size_t>(hash);
  }
};

Key key_of(const BlasProduct& p, bool tf32) {
  int64_t flags = 0;
  const auto add = [&](int64_t value, int bits) { flags = flags << bits | value; };
  add(p.device.index, 5);
  add(static_cast<int64_t>(p.in), 3);
  add(static_cast<int64_t>(p.out), 3);
  add(static_cast<int64_t>(p.epilogue), 2);
  add(p.a.column_major, 1);
  add(p.b.column_major, 1);
  add(p.bias != nullptr, 1);
  add(tf32, 1);
  for (const void* data : {p.a.data, p.b.data, p.c.data, p.bias, static_cast<const void*>(p.aux)})
    add(alignment(data), 5);
  return {p.m,
          p.n,
          p.k,
          p.batch,
          p.a.ld,
          p.b.ld,
          p.c.ld,
          p.a.batch_stride,
          p.b.batch_stride,
          p.c.batch_stride,
          flags};
}

Choice chosen(const BlasProduct& p, Problem& problem, bool tf32) {
  static auto* mutex = new std::mutex;
  static auto* choices = new std::unordered_map<Key, Choice, KeyHash>;
  const Key key = key_of(p, tf32);
  {
    const std::lock_guard lock(*mutex);
    if (const auto found = choices->find(key); found != choices->end()) return found->second;
  }
  const Choice choice = choose(p, problem);  // two threads that come here choose the same
  const std::lock_guard lock(*mutex);
  choices->emplace(key, choice);
  return choice;
}

}  // namespace

bool multiply(const BlasProduct& p) {
  const cudaStream_t on = stream(p.device);
  const bool tf32 = tf32_allowed();
  Problem problem(p, tf32);
  const Choice choice = chosen(p, problem, tf32);
  if (!choice.found) return false;
  const Tensor workspace =
      choice.workspace > 0 ? Tensor::empty({kWorkspaceBytes}, u8, p.device) : Tensor();
  const double beta = p.accumulate ? 1.0 : 0.0;
  const float narrow[] = {static_cast<float>(p.alpha), static_cast<float>(beta)};
  const double wide[] = {p.alpha, beta};
  const bool is_wide = p.in == f64;
  auto* c = const_cast<void*>(p.c.data);
  check(cublaslt().multiply(handle(p), problem.operation(),
                            is_wide ? static_cast<const void*>(&wide[0]) : &narrow[0], p.b.data,
                            problem.b(), p.a.data, problem.a(),
                            is_wide ? static_cast<const void*>(&wide[1]) : &narrow[1], c,
                            problem.c(), c, problem.c(), &choice.algorithm,
                            workspace.defined() ? workspace.raw_data() : nullptr,
                            static_cast<size_t>(choice.workspace), on),
        "cublasLtMatmul", p);
  return true;
}

}  // namespace tendril::cuda
