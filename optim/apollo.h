// APOLLO (Zhu et al. 2024, "APOLLO: SGD-like Memory, AdamW-level Performance"): the gradient
// itself, each channel of it as long as AdamW would make it. How long that is, moments of the
// gradient in a few random directions tell well enough; the directions need not be kept, nor
// anything of the weights' size.
//
//   optim::ApolloAdamW optimizer(model.named_parameters(),
//                               {.lr = 1e-2, .projection = {{.rank = 64}}});
//
// APOLLO-Mini, with hardly any state, has one direction and one length for a whole matrix:
//   .projection = {{.rank = 1, .scale = 128.0, .scaling = optim::ApolloScaling::tensor}}
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tendril/optim/projected.h>

namespace tendril::optim {

/// Where the directions come from: drawn at random, or the gradient's leading ones as in GaLore,
/// which are kept.
enum class ApolloBasis { random, svd };
/// From random or svd; Error that lists them otherwise.
TENDRIL_API ApolloBasis apollo_basis_from(const std::string& name);

/// What has a length of its own: each row or column along the side that is not projected, or the
/// matrix.
enum class ApolloScaling { channel, tensor };
/// From channel or tensor; Error that lists them otherwise.
TENDRIL_API ApolloScaling apollo_scaling_from(const std::string& name);

struct ApolloProjection {
  int64_t rank = 128;             // clamped to the shorter side of a matrix
  int64_t update_proj_gap = 200;  // steps from one basis to the next
  double scale = 1.0;             // the step is multiplied by its root; not negative
  ProjectionType type = ProjectionType::standard;  // any but full
  ApolloBasis basis = ApolloBasis::random;
  ApolloScaling scaling = ApolloScaling::channel;
  bool scale_front =
      false;  // multiply by the root of scale before the growth is limited, not after
  double max_growth = 1.01;  // of the scaled gradient's norm, in one step; infinity: no limit
  bool randomized = false;   // svd by the range finder of ProjectionOptions
  uint64_t seed = 0;         // of random directions, and of the range finder
};

struct ApolloAdamWOptions {
  double lr = 1e-2;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-6;
  double weight_decay = 0.0;  // decoupled, with the full rate, after the step
  std::optional<ApolloProjection> projection = std::nullopt;
};

/// For a matrix G (m x n) of a group with a projection, here with the left side projected, as the
/// standard type has it where m < n; the right side is the same, transposed:
///   A (m x r) ~ N(0, 1 / r), the same numbers for update_proj_gap steps
///   R = A^T G;  m += (1 - beta1) (R - m);  v = beta2 v + (1 - beta2) R^2;  N = m / (sqrt(v) + eps)
///   s_j = norm(N[:, j]) / (norm(R[:, j]) + 1e-8), or one s = norm(N) / (norm(R) + 1e-8)
///   U[:, j] = s_j G[:, j], times sqrt(scale) with scale_front
///   limit: where norm(U) > max_growth (u + 1e-8), U is scaled down to that; u is its norm in the
///   step before, and where that was 0 nothing is limited
///   p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) sqrt(scale) U, here without scale_front
///   p -= lr weight_decay p
/// The formulas are those of the authors' own implementation. A is drawn anew in every step from
/// seed, name and step and is no state. A parameter that is no matrix, or whose group has no
/// projection, gets AdamW with the same eps on the raw root and the same late decay. State:
/// exp_avg and exp_avg_sq, of R's shape for a matrix (r x n), which also has scaled_norm, u, one
/// number in f64; with svd the basis (see Projected); and master for 16-bit parameters.
class TENDRIL_API ApolloAdamW : public Projected {
 public:
  /// An optimizer without parameters; add groups.
  ApolloAdamW() = default;
  explicit ApolloAdamW(const std::vector<NamedTensor>& parameters,
                       const ApolloAdamWOptions& options = {});
  explicit ApolloAdamW(const std::vector<Tensor>& parameters,
                       const ApolloAdamWOptions& options = {});
  /// Error for options out of range.
  void add_param_group(const std::vector<NamedTensor>& parameters,
                       const ApolloAdamWOptions& options = {});

 protected:
  void update(Slot& slot, const Tensor& gradient, double lr) override;
  void update_all(std::span<Slot* const> slots) override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
  std::vector<std::string> number_names(const Slot& slot) const override;

 private:
  const ApolloProjection& apollo_of(const Slot& slot) const {
    return *options_[slot.group].projection;
  }
  /// What the gradient is multiplied by, of shape (m, 1), (1, n) or (1, 1): U and the root of
  /// scale, without rates.
  Tensor factors(Slot& slot, const Tensor& gradient);
  Tensor normalized(Slot& slot, const Tensor& small);
  Tensor growth_limit(Slot& slot, const Tensor& norm);
  static StateSpec scaled_norm() { return {"scaled_norm", {1}, f64}; }

  std::vector<ApolloAdamWOptions> options_;  // one per group
};

}  // namespace tendril::optim
