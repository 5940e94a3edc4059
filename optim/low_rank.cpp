// The same bits for any number of threads: Eigen works alone, and matmul() has a fixed order.
#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Dense>

#include <tendril/core/creation.h>
#include <tendril/core/ops/copy.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/core/ops/layout.h>
#include <tendril/core/ops/matmul.h>
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

Tensor from_eigen(const Matrix& x, const Tensor& like) {
  const std::vector<double> values(x.data(), x.data() + x.size());
  const Tensor result = Tensor::empty({x.rows(), x.cols()}, like.dtype(), like.device());
  ops::copy(result, Tensor::from(values, {x.rows(), x.cols()}));
  return result;
}

Tensor transposed(const Tensor& x) { return ops::transpose(x, 0, 1); }

// An orthonormal basis of the range of y (tall, f64). Cholesky's way is fast products alone; a
// second round makes up for what the first loses. It fails where columns are nearly dependent.
Tensor orthonormal(const Tensor& y, int rounds) {
  Tensor q = y;
  for (int round = 0; round < rounds; ++round) {
    const Eigen::LLT<Matrix> cholesky(to_eigen(ops::matmul(transposed(q), q)));
    if (cholesky.info() != Eigen::Success || cholesky.rcond() < 1e-12) {
      const Eigen::HouseholderQR<Matrix> qr(to_eigen(y));
      return from_eigen(qr.householderQ() * Matrix::Identity(y.shape()[0], y.shape()[1]), y);
    }
    Matrix inverse = Matrix::Identity(y.shape()[1], y.shape()[1]);
    cholesky.matrixU().solveInPlace(inverse);
    q = ops::matmul(q, from_eigen(inverse, y));
  }
  return q;
}

Matrix exact_left_vectors(const Tensor& matrix, int64_t rank) {
  const Eigen::BDCSVD<Eigen::MatrixXd> svd(to_eigen(matrix), Eigen::ComputeThinU);
  return svd.matrixU().leftCols(rank);
}

// The range finder. The products with G and its transpose are in G's own precision, the thin rest
// in double.
Matrix randomized_left_vectors(const Tensor& matrix, int64_t rank, int64_t width,
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
  return to_eigen(ops::matmul(q, from_eigen(leading, q)));
}

// (m, rank)
Matrix leading_left_vectors(const Tensor& matrix, int64_t rank, const ProjectionOptions& options,
                            const RandomKey& key) {
  const int64_t shorter = std::min(matrix.shape()[0], matrix.shape()[1]);
  const int64_t width = rank + options.oversampling;
  Matrix vectors = options.randomized && width < shorter
                       ? randomized_left_vectors(matrix, rank, width, options, key)
                       : exact_left_vectors(matrix, rank);
  for (Eigen::Index j = 0; j < vectors.cols(); ++j) {
    Eigen::Index largest = 0;
    vectors.col(j).cwiseAbs().maxCoeff(&largest);
    if (vectors(largest, j) < 0.0) vectors.col(j) *= -1.0;
  }
  return vectors;
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
  const int64_t rank = projection_rank(options, matrix.shape());
  if (basis.left.defined())
    ops::copy(basis.left, from_eigen(leading_left_vectors(matrix, rank, options, key), matrix));
  if (basis.right.defined()) {
    const Matrix vectors = leading_left_vectors(transposed(matrix), rank, options, key);
    ops::copy(basis.right, transposed(from_eigen(vectors, matrix)));
  }
}

}  // namespace tendril::optim
