// The matrix product below matmul(): every form, size class and dtype against exact integer
// arithmetic.

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <thread>
#include <vector>

#include <tendril/core/cpu/gemm.h>
#include <tendril/core/cpu/gemm_kernels.h>
#include <tendril/core/threads.h>

using namespace tendril;
using tendril::cpu::gemm;
using tendril::cpu::GemmOutput;
using tendril::cpu::MatrixView;

namespace {

// Whole numbers from -8 to 8: products and sums up to K = 2048 are exact in every dtype.
int entry(int64_t i, int salt) {
  return static_cast<int>((static_cast<uint64_t>(i) * 2654435761u + salt * 97u) >> 7) % 17 - 8;
}

template <class T>
struct Matrix {
  Matrix(int64_t rows, int64_t columns, bool transposed, int salt)
      : data(static_cast<size_t>(rows * columns)),
        row(transposed ? 1 : columns),
        column(transposed ? rows : 1) {
    for (size_t i = 0; i < data.size(); ++i)
      data[i] = T(static_cast<float>(entry(static_cast<int64_t>(i), salt)));
  }
  int at(int64_t i, int64_t j) const {
    return static_cast<int>(static_cast<float>(data[static_cast<size_t>(i * row + j * column)]));
  }
  MatrixView view() const { return {data.data(), dtype_of<T>(), row, column}; }

  std::vector<T> data;
  int64_t row, column;
};

std::vector<int> exact_product(const auto& a, const auto& b, int64_t M, int64_t N, int64_t K) {
  std::vector<int> c(static_cast<size_t>(M * N), 0);
  for (int64_t i = 0; i < M; ++i)
    for (int64_t k = 0; k < K; ++k) {
      const int left = a.at(i, k);
      for (int64_t j = 0; j < N; ++j) c[static_cast<size_t>(i * N + j)] += left * b.at(k, j);
    }
  return c;
}

// Rows of C lie apart; what is between them must not be touched.
template <class In, class Out>
int64_t wrong_elements(int64_t M, int64_t N, int64_t K, bool a_transposed, bool b_transposed,
                       bool accumulate, bool with_bias) {
  const Matrix<In> a(M, K, a_transposed, 1), b(K, N, b_transposed, 2);
  const std::vector<int> expected = exact_product(a, b, M, N, K);
  const int64_t row = N + 3;
  std::vector<Out> c(static_cast<size_t>(M * row + 1), Out(5.0f));
  using Sum = std::conditional_t<std::is_same_v<In, double>, double, float>;
  std::vector<Sum> bias;
  for (int64_t j = 0; j < N; ++j) bias.push_back(static_cast<Sum>(j % 7));
  GemmOutput out{c.data(), dtype_of<Out>(), row, accumulate};
  if (with_bias) out.bias = bias.data();
  gemm(M, N, K, a.view(), b.view(), out);
  int64_t wrong = 0;
  for (int64_t i = 0; i < M; ++i)
    for (int64_t j = 0; j < row; ++j) {
      float want = 5.0f;  // between the rows
      if (j < N) {
        const float sum = static_cast<float>(expected[static_cast<size_t>(i * N + j)]);
        want = sum + (accumulate ? 5.0f : 0.0f) + (with_bias ? static_cast<float>(j % 7) : 0.0f);
      }
      wrong +=
          static_cast<float>(c[static_cast<size_t>(i * row + j)]) != static_cast<float>(Out(want));
    }
  return wrong + (static_cast<float>(c.back()) != 5.0f);
}

struct Size {
  int64_t M, N, K;
};

constexpr Size kSizes[] = {
    {1, 1, 1},     {1, 33, 7},    {3, 50, 64},    {5, 31, 128},   {7, 16, 17},     {8, 40, 96},
    {9, 130, 64},  {13, 65, 30},  {14, 32, 16},   {15, 33, 257},  {16, 64, 64},    {28, 200, 33},
    {29, 17, 255}, {64, 64, 64},  {65, 1, 100},   {113, 129, 70}, {127, 2, 5},     {130, 300, 2},
    {224, 31, 9},  {20, 700, 40}, {33, 64, 1024}, {6, 512, 1030}, {250, 270, 260},
};

}  // namespace

TEST_SUITE("gemm") {
  TEST_CASE_TEMPLATE("exact on whole numbers, in all four forms", T, float, double, bfloat16,
                     float16) {
    using Sum = std::conditional_t<std::is_same_v<T, double>, double, float>;
    for (const Size& s : kSizes)
      for (int form = 0; form < 4; ++form) {
        CAPTURE(s.M);
        CAPTURE(s.N);
        CAPTURE(s.K);
        CAPTURE(form);
        const bool ta = form & 1, tb = form & 2;
        CHECK((wrong_elements<T, Sum>(s.M, s.N, s.K, ta, tb, false, false)) == 0);
        CHECK((wrong_elements<T, Sum>(s.M, s.N, s.K, ta, tb, true, false)) == 0);
        CHECK((wrong_elements<T, Sum>(s.M, s.N, s.K, ta, tb, false, true)) == 0);
        CHECK((wrong_elements<T, Sum>(s.M, s.N, s.K, ta, tb, true, true)) == 0);
        if constexpr (sizeof(T) == 2) {
          CHECK((wrong_elements<T, T>(s.M, s.N, s.K, ta, tb, false, false)) == 0);
          CHECK((wrong_elements<T, T>(s.M, s.N, s.K, ta, tb, false, true)) == 0);
        }
      }
  }

  TEST_CASE("operands of different types, strides in both directions, repeated rows") {
    const Matrix<float> a(30, 40, false, 1);
    const Matrix<bfloat16> b(40, 50, true, 2);
    std::vector<float> c(30 * 50);
    gemm(30, 50, 40, a.view(), b.view(), c.data(), 50);
    CHECK(std::vector<int>(c.begin(), c.end()) == exact_product(a, b, 30, 50, 40));

    const Matrix<float> wide(60, 80, false, 3);  // every second row and column, backwards
    struct View {
      const Matrix<float>& of;
      int at(int64_t i, int64_t j) const { return of.at(58 - 2 * i, 78 - 2 * j); }
    };
    const MatrixView backwards{&wide.data[58 * 80 + 78], f32, -160, -2};
    gemm(30, 50, 40, backwards, b.view(), c.data(), 50);
    CHECK(std::vector<int>(c.begin(), c.end()) == exact_product(View{wide}, b, 30, 50, 40));

    const MatrixView one_row_repeated{a.data.data(), f32, 0, 1};
    gemm(30, 50, 40, one_row_repeated, b.view(), c.data(), 50);
    for (int i = 1; i < 30; ++i) CHECK(std::equal(c.begin(), c.begin() + 50, c.begin() + 50 * i));
  }

  TEST_CASE("nothing to sum: C is cleared, kept or set to the bias") {
    std::vector<float> c(6, 3.0f), bias{1, 2, 3};
    gemm(2, 3, 0, {c.data(), f32, 0, 1}, {c.data(), f32, 3, 1}, {c.data(), f32, 3, true});
    CHECK(c == std::vector<float>(6, 3.0f));
    gemm(2, 3, 0, {c.data(), f32, 0, 1}, {c.data(), f32, 3, 1},
         {c.data(), f32, 3, false, bias.data()});
    CHECK(c == std::vector<float>{1, 2, 3, 1, 2, 3});
    gemm(2, 3, 0, {c.data(), f32, 0, 1}, {c.data(), f32, 3, 1},
         {c.data(), f32, 3, true, bias.data()});
    CHECK(c == std::vector<float>{2, 4, 6, 2, 4, 6});
    gemm(2, 3, 0, {c.data(), f32, 0, 1}, {c.data(), f32, 3, 1}, {c.data(), f32, 3});
    CHECK(c == std::vector<float>(6, 0.0f));
  }

  TEST_CASE("the same bits for 1, 2, 3 and 4 threads") {
    const int before = num_threads();
    for (const Size& s :
         {Size{300, 260, 700}, Size{16, 900, 512}, Size{4, 900, 512}, Size{50, 3000, 64}}) {
      std::vector<float> a(static_cast<size_t>(s.M * s.K)), b(static_cast<size_t>(s.K * s.N));
      for (size_t i = 0; i < a.size(); ++i) a[i] = std::sin(static_cast<float>(i));
      for (size_t i = 0; i < b.size(); ++i) b[i] = std::cos(static_cast<float>(i));
      std::vector<float> expected;
      for (int threads : {1, 2, 3, 4}) {
        set_num_threads(threads);
        std::vector<float> c(static_cast<size_t>(s.M * s.N));
        gemm(s.M, s.N, s.K, {a.data(), f32, s.K, 1}, {b.data(), f32, 1, s.K}, c.data(), s.N);
        if (threads == 1) expected = c;
        CHECK(c == expected);
      }
    }
    set_num_threads(before);
  }

  // Of interest where the tiles are Eigen's (TENDRIL_ISA=generic). A new thread has no helpers yet.
  TEST_CASE("with num_threads 1 a product starts no thread") {
    const std::filesystem::path tasks = "/proc/self/task";
    if (!std::filesystem::exists(tasks)) return;
    const auto count = [&] {
      return std::distance(std::filesystem::directory_iterator(tasks),
                           std::filesystem::directory_iterator());
    };
    const int before = num_threads();
    set_num_threads(1);
    std::ptrdiff_t started = -1;
    std::thread([&] {
      const int64_t n = 200;
      const std::vector<float> a(n * n, 1.0f);
      std::vector<float> c(n * n);
      const auto at_first = count();
      gemm(n, n, n, {a.data(), f32, n, 1}, {a.data(), f32, n, 1}, c.data(), n);
      started = count() - at_first;
    }).join();
    set_num_threads(before);
    CHECK(started == 0);
  }

  TEST_CASE("rounding errors stay within 2 K eps sum |a||b|") {
    const int64_t M = 20, N = 70, K = 3000;
    std::vector<float> a(static_cast<size_t>(M * K)), b(static_cast<size_t>(K * N)),
        c(static_cast<size_t>(M * N));
    for (size_t i = 0; i < a.size(); ++i) a[i] = std::sin(static_cast<float>(i) * 0.37f);
    for (size_t i = 0; i < b.size(); ++i) b[i] = std::cos(static_cast<float>(i) * 0.11f);
    gemm(M, N, K, {a.data(), f32, K, 1}, {b.data(), f32, N, 1}, c.data(), N);
    for (int64_t i = 0; i < M; ++i)
      for (int64_t j = 0; j < N; ++j) {
        double sum = 0, magnitude = 0;
        for (int64_t k = 0; k < K; ++k) {
          const double product = static_cast<double>(a[static_cast<size_t>(i * K + k)]) *
                                 b[static_cast<size_t>(k * N + j)];
          sum += product;
          magnitude += std::fabs(product);
        }
        REQUIRE(std::fabs(c[static_cast<size_t>(i * N + j)] - sum) <=
                2.0 * K * 0x1p-24 * magnitude);
      }
  }
}
