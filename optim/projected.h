// What optimizers share that see matrices in a few directions: which matrices, and the directions
// of their gradients as they are kept from one refresh to the next.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tendril/optim/optimizer.h>
#include <tendril/optim/projection.h>

namespace tendril::optim {

struct Basis;  // low_rank.h

/// With t the steps before this one: at t = 0, and when t is a multiple of update_proj_gap, there
/// is a new basis from the gradient; not from one that is zero or not finite, which leaves the old
/// basis (or, before the first, none, and then the next step tries again). State of a matrix with a
/// basis: left_basis, right_basis, or both, by which the side is known; the number refreshed_at,
/// the step of the basis (-1: none yet).
class TENDRIL_API Projected : public Optimizer {
 protected:
  /// AdamW for parameters that are not projected, in the order that GaLore and APOLLO have it from
  /// an older library: eps on the root before its correction, decay after the step.
  struct WholeAdamW {
    double beta1, beta2, eps, weight_decay;
  };

  /// register_group() for a group of matrices to project, or of others. Error, under the name of
  /// `optimizer`, for options out of range.
  void register_with(const char* optimizer, const std::vector<NamedTensor>& parameters, double lr,
                     const std::optional<ProjectionOptions>& projection);
  /// How the parameter is projected; null for one that is not, as none is that is no matrix.
  const ProjectionOptions* projection_of(const Slot& slot) const;

  /// The basis for this step's gradient, a new one when it is due.
  Basis basis_for(Slot& slot, const Tensor& gradient);
  /// What basis_for() keeps: tensors, and the names of numbers.
  std::vector<StateSpec> basis_specs(const Slot& slot) const;
  static std::vector<std::string> basis_numbers();

  /// One fused pass for each; state exp_avg and exp_avg_sq.
  void update_whole(std::span<Slot* const> slots,
                    const std::function<WholeAdamW(const Slot&)>& rule_of);

 private:
  bool is_due(const Slot& slot);
  int64_t number_of(const Slot& slot);

  std::vector<std::optional<ProjectionOptions>> projections_;  // one per group
};

}  // namespace tendril::optim
