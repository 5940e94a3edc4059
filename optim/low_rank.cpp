// The same bits for any number of threads: Eigen works alone, and matmul() has a fixed order.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Dense>

#include <tendril/core/creation.h>
#include <tendril/core/cuda.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/matmul.h>
#include <tendril/core/ops/pointwise.h>
#include <tendril/core/ops/reduce.h>
#include <tendril/optim/low_rank.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace tendril::optim {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Matrix to_eigen(const Tensor& x) {
  const std::vector<double> values = x.to_vector<double>();
  return Eigen::Map<const Matrix>(values.data(), x.shape()[0], x.shape()[1]);
}

Tensor from_eigen(const Matrix& x, Device device) {
  const std::vector<double> values(x.data(), x.data() + x.size());
  const Tensor result = Tensor::empty({x.rows(), x.cols()}, f64, device);
  ops::copy(result, Tensor::from(values, {x.rows(), x.cols()}));
  return result;
}

Tensor transposed(const Tensor& x) { return ops::transpose(x, 0, 1); }

// An orthonormal basis of the range of y (tall, f64) by Cholesky's way: products on y's device, and
// a small factor made by the host. A second round makes up for what the first loses. Columns that
// are nearly dependent, as those of a gradient of lower rank are up to its rounding, first get
// rounds with a shifted factor (Fukaya et al. 2020), which makes them less so. If they are
// dependent to the last bit that does not help, and the host decomposes y itself.
Tensor orthonormal(const Tensor& y, int rounds) {
  constexpr double kLeastCondition = 1e-12, kShift = 1e-12;
  constexpr int kMostShifts = 3;
  Tensor q = y;
  for (int shifts = 0;;) {
    Matrix gram = to_eigen(ops::matmul(transposed(q), q));
    Eigen::LLT<Matrix> cholesky(gram);
    const bool exact = cholesky.info() == Eigen::Success && cholesky.rcond() >= kLeastCondition;
    if (!exact) {
      if (shifts++ == kMostShifts) break;
      gram.diagonal().array() += kShift * gram.trace();
      if (cholesky.compute(gram).info() != Eigen::Success) break;
    }
    Matrix inverse = Matrix::Identity(gram.rows(), gram.cols());
    cholesky.matrixU().solveInPlace(inverse);
    q = ops::matmul(q, from_eigen(inverse, y.device()));
    if (exact && --rounds == 0) return q;
  }
  const Eigen::HouseholderQR<Matrix> qr(to_eigen(y));
  return from_eigen(qr.householderQ() * Matrix::Identity(y.shape()[0], y.shape()[1]), y.device());
}

Tensor exact_left_vectors(const Tensor& matrix, int64_t rank) {
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(to_eigen(matrix), Eigen::ComputeThinU);
  return from_eigen(svd.matrixU().leftCols(rank), matrix.device());
}

// The range finder. The products with G and its transpose are in G's own precision, the thin rest
// in double; the host sees matrices of (width, width) alone.
Tensor randomized_left_vectors(const Tensor& matrix, int64_t rank, int64_t width,
                               const ProjectionOptions& options, const RandomKey& key) {
  const auto image = [&](const Tensor& by, const Tensor& of) {
    return ops::cast(ops::matmul(by, ops::cast(of, matrix.dtype())), f64);
  };
  const Tensor test = randn({matrix.shape()[1], width}, matrix.dtype(), key, matrix.device());
  Tensor y = image(matrix, test);
  for (int64_t i = 0; i < options.power_iterations; ++i)
    y = image(matrix, orthonormal(image(transposed(matrix), orthonormal(y, 1)), 1));
  const Tensor q = orthonormal(y, 2);
  // Inside of the range the singular vectors are the eigenvectors of (G^T Q)^T (G^T Q).
  const Tensor inside = image(transposed(matrix), q);
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(
      to_eigen(ops::matmul(transposed(inside), inside)));
  const Matrix leading = eigen.eigenvectors().rowwise().reverse().leftCols(rank);
  return ops::matmul(q, from_eigen(leading, matrix.device()));
}

// (m, rank) in f64, on the matrix's device
Tensor leading_left_vectors(const Tensor& matrix, int64_t rank, const ProjectionOptions& options,
                            const RandomKey& key) {
  const int64_t shorter = std::min(matrix.shape()[0], matrix.shape()[1]);
  const int64_t width = rank + options.oversampling;
  const Tensor vectors = options.randomized && width < shorter
                             ? randomized_left_vectors(matrix, rank, width, options, key)
                             : exact_left_vectors(matrix, rank);
  const Tensor most = ops::max(vectors, {0}, /*keepdim=*/true);
  const Tensor least = ops::min(vectors, {0}, /*keepdim=*/true);
  return ops::where(ops::compare(Op::ge, most, ops::neg(least)), vectors, ops::neg(vectors));
}

}  // namespace

ProjectionType projection_type_from(const std::string& name) {
  if (name == "std") return ProjectionType::standard;
  if (name == "reverse_std") return ProjectionType::reverse_standard;
  if (name == "left") return ProjectionType::left;
  if (name == "right") return ProjectionType::right;
  if (name == "full") return ProjectionType::full;
  fail("[projection_type] unknown proj_type \"", name,
       "\"; choose from std, reverse_std, left, right, full");
}

int64_t projection_rank(const ProjectionOptions& options, const Shape& matrix) {
  return std::min({options.rank, matrix[0], matrix[1]});
}

Sides sides_of(ProjectionType type, const Shape& matrix) {
  const bool tall = matrix[0] >= matrix[1];
  switch (type) {
    case ProjectionType::standard:
      return {.left = !tall, .right = tall};
    case ProjectionType::reverse_standard:
      return {.left = tall, .right = !tall};
    case ProjectionType::left:
      return {.left = true, .right = false};
    case ProjectionType::right:
      return {.left = false, .right = true};
    case ProjectionType::full:
      return {.left = true, .right = true};
  }
  fail("[sides_of] unknown projection type ", static_cast<int>(type));
}

Shape projected_shape(const ProjectionOptions& options, const Shape& matrix) {
  const Sides sides = sides_of(options.type, matrix);
  const int64_t rank = projection_rank(options, matrix);
  return {sides.left ? rank : matrix[0], sides.right ? rank : matrix[1]};
}

Tensor project(const Basis& basis, const Tensor& matrix) {
  Tensor small = matrix;
  if (basis.left.defined()) small = ops::matmul(transposed(basis.left), small);
  if (basis.right.defined()) small = ops::matmul(small, transposed(basis.right));
  return small;
}

Tensor project_back(const Basis& basis, const Tensor& small) {
  Tensor matrix = small;
  if (basis.left.defined()) matrix = ops::matmul(basis.left, matrix);
  if (basis.right.defined()) matrix = ops::matmul(matrix, basis.right);
  return matrix;
}

bool has_directions(const Tensor& matrix) {
  const double squares = ops::sum_of_squares(matrix);
  return std::isfinite(squares) && squares > 0.0;
}

void find_basis(const Basis& basis, const Tensor& matrix, const ProjectionOptions& options,
                const RandomKey& key) {
  const cuda::NoTf32Guard all_digits;
  const int64_t rank = projection_rank(options, matrix.shape());
  if (basis.left.defined()) ops::copy(basis.left, leading_left_vectors(matrix, rank, options, key));
  if (basis.right.defined())
    ops::copy(basis.right,
              transposed(leading_left_vectors(transposed(matrix), rank, options, key)));
}

}  // namespace tendril::optim
