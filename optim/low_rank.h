// Private to optim: orthonormal bases of a matrix's leading directions.
#pragma once

#include <tendril/core/random.h>
#include <tendril/optim/projection.h>

namespace tendril::optim {

struct Sides {
  bool left = false, right = false;
};
TENDRIL_API Sides sides_of(ProjectionType type, const Shape& matrix);

/// A basis; a side that is not projected is undefined.
struct Basis {
  Tensor left;   // (m, r)
  Tensor right;  // (r, n)
};

/// The shape of project()'s result.
TENDRIL_API Shape projected_shape(const ProjectionOptions& options, const Shape& matrix);
TENDRIL_API Tensor project(const Basis& basis, const Tensor& matrix);
TENDRIL_API Tensor project_back(const Basis& basis, const Tensor& small);

/// Whether a matrix has leading directions at all: finite, and not zero.
TENDRIL_API bool has_directions(const Tensor& matrix);
/// Fills the basis with the leading singular vectors of `matrix`, which has directions; of each the
/// entry of largest magnitude is positive. `key` names the range finder's random numbers.
TENDRIL_API void find_basis(const Basis& basis, const Tensor& matrix,
                            const ProjectionOptions& options, const RandomKey& key);

}  // namespace tendril::optim
