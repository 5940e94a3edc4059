// cuBLASLt of the emulated GPU against sums in f64, in every form that core/cuda/blas.cu asks for,
// and what it must refuse. Built with TENDRIL_CUDA=EMULATED only.
#include <cublasLt.h>
#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include <tendril/core/half.h>
#include <tendril/core/random.h>

using namespace tendril;

namespace {

template <class T>
constexpr cudaDataType_t kType = CUDA_R_32F;
template <>
constexpr cudaDataType_t kType<double> = CUDA_R_64F;
template <>
constexpr cudaDataType_t kType<float16> = CUDA_R_16F;
template <>
constexpr cudaDataType_t kType<bfloat16> = CUDA_R_16BF;

// Half a unit in the last place, of numbers around 1; for f32 and f64 what some hundred additions
// leave.
template <class T>
constexpr double kRounding = 5e-6;
template <>
constexpr double kRounding<double> = 1e-14;
template <>
constexpr double kRounding<float16> = 0.00049;
template <>
constexpr double kRounding<bfloat16> = 0.0040;

/// A batch of column-major matrices with room between columns and between matrices.
template <class T>
struct Matrices {
  int64_t rows, columns, batch, ld, stride;
  std::vector<T> values;

  Matrices(int64_t rows, int64_t columns, int64_t batch, uint64_t seed)
      : rows(rows),
        columns(columns),
        batch(batch),
        ld((rows + 15) / 8 * 8),
        stride(ld * columns + 8),
        values(static_cast<size_t>(stride * batch)) {
    const RandomKey key{seed};
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<T>(static_cast<float>(key.bits(i)) / 4294967296.0f - 0.5f);
  }

  T& at(int64_t b, int64_t row, int64_t column) {
    return values[static_cast<size_t>(b * stride + column * ld + row)];
  }

  cublasLtMatrixLayoutOpaque_t layout() const {
    cublasLtMatrixLayoutOpaque_t result;
    cublasLtMatrixLayoutInit_internal(&result, sizeof result, kType<T>, static_cast<uint64_t>(rows),
                                      static_cast<uint64_t>(columns), ld);
    const auto count = static_cast<int32_t>(batch);
    cublasLtMatrixLayoutSetAttribute(&result, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count,
                                     sizeof count);
    cublasLtMatrixLayoutSetAttribute(&result, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                     sizeof stride);
    return result;
  }
};

/// A product as the library is asked for it: heuristic, then the product with its choice.
struct Asked {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatmulPreferenceOpaque_t preference;
  cublasLtMatmulHeuristicResult_t choice{};
  int found = 0;

  explicit Asked(cudaDataType_t in, cublasComputeType_t compute) {
    cublasLtMatmulDescInit_internal(&operation, sizeof operation, compute,
                                    in == CUDA_R_64F ? CUDA_R_64F : CUDA_R_32F);
    cublasLtMatmulPreferenceInit_internal(&preference, sizeof preference);
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{1} << 20);
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           uint32_t{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
    for (const auto side :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      prefer(side, uint32_t{16});
  }

  template <class V>
  void set(cublasLtMatmulDescAttributes_t attribute, const V& value) {
    REQUIRE(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value) ==
            CUBLAS_STATUS_SUCCESS);
  }
  template <class V>
  void prefer(cublasLtMatmulPreferenceAttributes_t attribute, const V& value) {
    REQUIRE(cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value) ==
            CUBLAS_STATUS_SUCCESS);
  }

  static cublasLtHandle_t handle() {
    cublasLtHandle_t made = nullptr;
    REQUIRE(cublasLtCreate(&made) == CUBLAS_STATUS_SUCCESS);
    return made;
  }

  cublasStatus_t choose(cublasLtMatrixLayoutOpaque_t a, cublasLtMatrixLayoutOpaque_t b,
                        cublasLtMatrixLayoutOpaque_t d) {
    return cublasLtMatmulAlgoGetHeuristic(handle(), &operation, &a, &b, &d, &d, &preference, 1,
                                          &choice, &found);
  }

  template <class S, class In, class Out>
  cublasStatus_t multiply(S alpha, Matrices<In>& a, Matrices<In>& b, S beta, Matrices<Out>& d,
                          size_t workspace_bytes) {
    auto a_layout = a.layout(), b_layout = b.layout(), d_layout = d.layout();
    std::vector<double> workspace(workspace_bytes / sizeof(double) + 1);
    return cublasLtMatmul(handle(), &operation, &alpha, a.values.data(), &a_layout, b.values.data(),
                          &b_layout, &beta, d.values.data(), &d_layout, d.values.data(), &d_layout,
                          &choice.algo, workspace.data(), workspace_bytes, nullptr);
  }
};

struct Form {
  int64_t m, n, k, batch = 1;
  bool transpose_a = false, transpose_b = false;
  double alpha = 1.0, beta = 0.0;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
};

double gelu(double x) {
  return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
}

// By a difference quotient: what a slope is.
double gelu_slope(double x) {
  const double h = 1e-5;
  return (gelu(x + h) - gelu(x - h)) / (2.0 * h);
}

/// Computes d, as core/cuda/blas.cu asks for it.
template <class In, class Out>
void multiply(const Form& f, Matrices<In>& a, Matrices<In>& b, Matrices<Out>& d, Matrices<Out>& aux,
              Matrices<Out>& bias) {
  using S = std::conditional_t<std::is_same_v<In, double>, double, float>;
  Asked asked(kType<In>, std::is_same_v<In, double> ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F);
  if (f.transpose_a) asked.set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
  if (f.transpose_b) asked.set(CUBLASLT_MATMUL_DESC_TRANSB, CUBLAS_OP_T);
  asked.set(CUBLASLT_MATMUL_DESC_EPILOGUE, f.epilogue);
  asked.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias.values.data());
  asked.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.values.data());
  asked.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, aux.ld);
  asked.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, aux.stride);
  REQUIRE(asked.choose(a.layout(), b.layout(), d.layout()) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(asked.found == 1);
  REQUIRE(asked.multiply(static_cast<S>(f.alpha), a, b, static_cast<S>(f.beta), d,
                         asked.choice.workspaceSize) == CUBLAS_STATUS_SUCCESS);
}

/// The largest error of D, and of aux where the epilogue writes it, relative to 1 + |expected|;
/// infinity when anything else was written.
template <class In, class Out>
double error_of(const Form& f) {
  Matrices<In> a(f.transpose_a ? f.k : f.m, f.transpose_a ? f.m : f.k, f.batch, 1),
      b(f.transpose_b ? f.n : f.k, f.transpose_b ? f.k : f.n, f.batch, 2);
  Matrices<Out> d(f.m, f.n, f.batch, 3), aux(f.m, f.n, f.batch, 4), bias(f.m, 1, 1, 5);
  if (f.beta == 0.0)  // is then not read
    for (Out& x : d.values) x = static_cast<Out>(std::numeric_limits<float>::quiet_NaN());
  Matrices<Out> before = d, aux_before = aux;

  multiply(f, a, b, d, aux, bias);

  const bool adds_bias = f.epilogue & CUBLASLT_EPILOGUE_BIAS;
  const bool is_gelu =
      f.epilogue == CUBLASLT_EPILOGUE_GELU_AUX || f.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  double worst = 0.0;
  const auto compare = [&](Out& got, double expected) {
    worst =
        std::max(worst, std::abs(static_cast<double>(got) - expected) / (1.0 + std::abs(expected)));
    if (std::isnan(static_cast<double>(got))) worst = std::numeric_limits<double>::infinity();
  };
  for (int64_t i = 0; i < f.batch; ++i)
    for (int64_t column = 0; column < f.n; ++column)
      for (int64_t row = 0; row < f.m; ++row) {
        double sum = 0.0;
        for (int64_t l = 0; l < f.k; ++l)
          sum += static_cast<double>(f.transpose_a ? a.at(i, l, row) : a.at(i, row, l)) *
                 static_cast<double>(f.transpose_b ? b.at(i, column, l) : b.at(i, l, column));
        double x = f.alpha * sum;
        if (f.beta != 0.0) x += f.beta * static_cast<double>(before.at(i, row, column));
        if (adds_bias) x += static_cast<double>(bias.at(0, row, 0));
        if (is_gelu) {
          compare(aux.at(i, row, column), x);
          x = gelu(x);
        } else if (f.epilogue == CUBLASLT_EPILOGUE_DGELU) {
          x *= gelu_slope(static_cast<double>(aux.at(i, row, column)));
        }
        compare(d.at(i, row, column), x);
        before.at(i, row, column) = d.at(i, row, column);
        if (is_gelu) aux_before.at(i, row, column) = aux.at(i, row, column);
      }
  const auto same = [](const auto& x, const auto& y) {
    return std::memcmp(x.values.data(), y.values.data(), x.values.size() * sizeof x.values[0]) == 0;
  };
  return same(d, before) && same(aux, aux_before) ? worst : std::numeric_limits<double>::infinity();
}

template <class In, class Out>
void check_form(const Form& form) {
  CAPTURE(form.m);
  CAPTURE(form.transpose_a);
  CAPTURE(form.transpose_b);
  CAPTURE(form.beta);
  CAPTURE(static_cast<int>(form.epilogue));
  CHECK((error_of<In, Out>(form) < kRounding<Out>));
}

template <class In, class Out>
void check_forms(const std::vector<cublasLtEpilogue_t>& epilogues) {
  size_t walked = 0;
  for (const bool transpose_a : {false, true})
    for (const bool transpose_b : {false, true})
      for (const double beta : {0.0, 0.5}) {
        const double alpha = beta == 0.0 ? 1.0 : -1.25;
        for (const auto epilogue : epilogues) {  // one element; less than a panel; ragged panels
          for (const auto& [m, n, k] : {std::array{1, 1, 1}, {7, 5, 3}, {40, 33, 17}})
            check_form<In, Out>(
                {m, n, k, m == 1 ? 1 : 3, transpose_a, transpose_b, alpha, beta, epilogue});
        }
        // Several tiles and a sum so long that it takes workspace.
        check_form<In, Out>({104, 99, 300, 1, transpose_a, transpose_b, alpha, beta,
                             epilogues[walked++ % epilogues.size()]});
      }
}

const std::vector<cublasLtEpilogue_t> kEpilogues = {
    CUBLASLT_EPILOGUE_DEFAULT, CUBLASLT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_GELU_AUX,
    CUBLASLT_EPILOGUE_GELU_AUX_BIAS, CUBLASLT_EPILOGUE_DGELU};

float tf32_product(float a_value, cublasComputeType_t compute) {
  Matrices<float> a(1, 1, 1, 1), b(1, 1, 1, 1), d(1, 1, 1, 1);
  a.at(0, 0, 0) = a_value, b.at(0, 0, 0) = 1.0f;
  Asked asked(CUDA_R_32F, compute);
  REQUIRE(asked.choose(a.layout(), b.layout(), d.layout()) == CUBLAS_STATUS_SUCCESS);
  REQUIRE(asked.multiply(1.0f, a, b, 0.0f, d, 0) == CUBLAS_STATUS_SUCCESS);
  return d.at(0, 0, 0);
}

}  // namespace

TEST_SUITE("emulated blas") {
  TEST_CASE("f64, which has no epilogues") {
    check_forms<double, double>({CUBLASLT_EPILOGUE_DEFAULT});
  }
  TEST_CASE("f32") { check_forms<float, float>(kEpilogues); }
  TEST_CASE("bf16, rounded and as f32") {
    check_forms<bfloat16, bfloat16>(kEpilogues);
    check_forms<bfloat16, float>(kEpilogues);
  }
  TEST_CASE("f16, rounded and as f32") {
    check_forms<float16, float16>(kEpilogues);
    check_forms<float16, float>(kEpilogues);
  }

  TEST_CASE("TF32 keeps ten bits after the leading one, to nearest even") {
    const float kept = 1.0f + 0x1p-10f, lost = 1.0f + 0x1p-12f;
    CHECK(tf32_product(kept, CUBLAS_COMPUTE_32F_FAST_TF32) == kept);
    CHECK(tf32_product(lost, CUBLAS_COMPUTE_32F_FAST_TF32) == 1.0f);
    CHECK(tf32_product(1.0f + 0x1p-11f, CUBLAS_COMPUTE_32F_FAST_TF32) == 1.0f);
    CHECK(tf32_product(kept + 0x1p-11f, CUBLAS_COMPUTE_32F_FAST_TF32) == 1.0f + 0x1p-9f);
    CHECK(tf32_product(lost, CUBLAS_COMPUTE_32F) == lost);
  }

  TEST_CASE("one matrix on the right for a whole batch") {
    Matrices<float> a(8, 3, 2, 1), b(3, 5, 1, 2), d(8, 5, 2, 3), alone(8, 5, 1, 4);
    auto repeated = b.layout();
    repeated.batch = 2, repeated.batch_stride = 0;
    auto a_layout = a.layout(), d_layout = d.layout();
    Asked asked(CUDA_R_32F, CUBLAS_COMPUTE_32F);
    REQUIRE(asked.choose(a_layout, repeated, d_layout) == CUBLAS_STATUS_SUCCESS);
    const float one = 1.0f, zero = 0.0f;
    REQUIRE(cublasLtMatmul(Asked::handle(), &asked.operation, &one, a.values.data(), &a_layout,
                           b.values.data(), &repeated, &zero, d.values.data(), &d_layout,
                           d.values.data(), &d_layout, &asked.choice.algo, nullptr, 0,
                           nullptr) == CUBLAS_STATUS_SUCCESS);
    for (int64_t i = 0; i < 2; ++i) {
      Matrices<float> left(8, 3, 1, 1);
      for (int64_t l = 0; l < 3; ++l)
        for (int64_t row = 0; row < 8; ++row) left.at(0, row, l) = a.at(i, row, l);
      REQUIRE(asked.choose(left.layout(), b.layout(), alone.layout()) == CUBLAS_STATUS_SUCCESS);
      REQUIRE(asked.multiply(1.0f, left, b, 0.0f, alone, 0) == CUBLAS_STATUS_SUCCESS);
      CHECK(alone.at(0, 7, 4) == d.at(i, 7, 4));
    }
  }

  TEST_CASE("what it has no algorithm for") {
    Matrices<double> a(8, 8, 1, 1), d(8, 8, 1, 2);
    Asked wide(CUDA_R_64F, CUBLAS_COMPUTE_64F);
    wide.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
    wide.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, a.values.data());
    CHECK(wide.choose(a.layout(), a.layout(), d.layout()) == CUBLAS_STATUS_NOT_SUPPORTED);
    CHECK(wide.found == 0);

    Matrices<float> x(8, 8, 1, 1), aux(8, 8, 1, 1);
    Matrices<bfloat16> narrow(8, 8, 1, 1);
    Asked mixed(CUDA_R_32F, CUBLAS_COMPUTE_32F);  // f32 does not round to 16 bits
    CHECK(mixed.choose(x.layout(), x.layout(), narrow.layout()) == CUBLAS_STATUS_NOT_SUPPORTED);

    Asked gelu_aux(CUDA_R_32F, CUBLAS_COMPUTE_32F);
    gelu_aux.set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_GELU_AUX);
    gelu_aux.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, aux.values.data());
    gelu_aux.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int64_t{12});  // not divisible by 8
    CHECK(gelu_aux.choose(x.layout(), x.layout(), x.layout()) == CUBLAS_STATUS_NOT_SUPPORTED);
  }

  TEST_CASE("arguments that do not fit together") {
    Matrices<float> a(8, 4, 1, 1), b(5, 8, 1, 2), d(8, 8, 1, 3);
    Asked asked(CUDA_R_32F, CUBLAS_COMPUTE_32F);
    CHECK(asked.choose(a.layout(), b.layout(), d.layout()) == CUBLAS_STATUS_INVALID_VALUE);
    Matrices<float> right(4, 8, 1, 2);
    auto narrow = right.layout();
    narrow.ld = 3;
    CHECK(asked.choose(a.layout(), narrow, d.layout()) == CUBLAS_STATUS_INVALID_VALUE);
    const int16_t transposed = CUBLAS_OP_T;  // of the wrong size
    CHECK(cublasLtMatmulDescSetAttribute(&asked.operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                         sizeof transposed) == CUBLAS_STATUS_INVALID_VALUE);
    // An algorithm that nobody chose.
    CHECK(asked.multiply(1.0f, a, right, 0.0f, d, 0) == CUBLAS_STATUS_INVALID_VALUE);
  }

  TEST_CASE("less workspace or alignment than the algorithm was chosen for") {
    Matrices<float> a(8, 512, 1, 1), b(512, 8, 1, 2), d(8, 8, 1, 3);
    Asked asked(CUDA_R_32F, CUBLAS_COMPUTE_32F);
    REQUIRE(asked.choose(a.layout(), b.layout(), d.layout()) == CUBLAS_STATUS_SUCCESS);
    REQUIRE(asked.choice.workspaceSize > 0);
    CHECK(asked.multiply(1.0f, a, b, 0.0f, d, 0) == CUBLAS_STATUS_INVALID_VALUE);
    CHECK(asked.multiply(1.0f, a, b, 0.0f, d, asked.choice.workspaceSize) == CUBLAS_STATUS_SUCCESS);

    asked.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{0});
    asked.prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, uint32_t{1} << 20);
    REQUIRE(asked.choose(a.layout(), b.layout(), d.layout()) == CUBLAS_STATUS_SUCCESS);
    CHECK(asked.choice.workspaceSize == 0);
    CHECK(asked.multiply(1.0f, a, b, 0.0f, d, 0) == CUBLAS_STATUS_INVALID_VALUE);
  }
}
