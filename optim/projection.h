// What a low-rank optimizer projects a matrix to, and how it finds the directions.
#pragma once

#include <cstdint>
#include <string>

#include <tendril/core/tensor.h>

namespace tendril::optim {

/// Which side of a matrix G of m x n is made small, by an orthonormal basis A (m x r) on the left
/// or B (r x n) on the right.
enum class ProjectionType {
  standard,          // the shorter side: right when m >= n (G B^T), else left (A^T G)
  reverse_standard,  // the longer one
  left,
  right,
  full,  // both: A^T G B^T
};

/// From std, reverse_std, left, right or full; Error that lists them otherwise.
TENDRIL_API ProjectionType projection_type_from(const std::string& name);

struct ProjectionOptions {
  int64_t rank = 128;             // clamped to the shorter side of a matrix
  int64_t update_proj_gap = 200;  // steps from one basis to the next
  double scale = 0.25;            // of an update on its way back
  ProjectionType type = ProjectionType::standard;
  /// The basis by a randomised range finder (Halko, Martinsson, Tropp 2011), which costs a few
  /// products instead of a singular value decomposition. On a GPU the products and all that has a
  /// side of the gradient's stay there; the host factorises squares of rank + oversampling, a few
  /// for each basis. The exact decomposition reads the whole gradient and runs on the host.
  bool randomized = false;
  int64_t oversampling = 8;      // of the range finder: directions beyond `rank`
  int64_t power_iterations = 2;  // of the range finder: more of them for slowly falling spectra
  uint64_t seed = 0;             // of the range finder
  /// New bases at different steps for different parameters, to spread their cost: parameter i of p
  /// at steps i * gap / p modulo gap. Every parameter has its first basis at the first step.
  bool staggered = false;
};

/// The number of directions for a matrix of this shape.
TENDRIL_API int64_t projection_rank(const ProjectionOptions& options, const Shape& matrix);

}  // namespace tendril::optim
