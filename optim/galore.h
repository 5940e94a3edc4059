// GaLore (Zhao et al. 2024, "Memory-Efficient LLM Training by Gradient Low-Rank Projection"): the
// optimizer's moments live in the leading directions of each gradient, of which new ones are found
// every few hundred steps; the weights themselves stay whole.
//
//   optim::GaloreAdamW optimizer(rest, {.lr = 1e-2});
//   optimizer.add_param_group(matrices, {.lr = 1e-2, .projection = {{.rank = 128}}});
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tendril/optim/adafactor.h>
#include <tendril/optim/projected.h>

namespace tendril::optim {

/// What is common to all optimizers of this kind, on the basis that Projected keeps for a matrix:
///   R = project(G);  N = the inner rule's step for R;  p -= scale * project_back(N)
/// Moments stay as they are when the basis changes. State of a projected matrix: the basis (see
/// Projected), the inner rule's state, of the small shape, and master for 16-bit parameters. A
/// group without a projection has the inner rule alone.
class TENDRIL_API Galore : public Projected {
 protected:
  /// Error for options out of range and, with a projection, for a parameter that is no matrix.
  void register_projected(const std::vector<NamedTensor>& parameters, double lr,
                          const std::optional<ProjectionOptions>& projection);

  /// Names and shapes of what the inner rule keeps for a gradient of this shape.
  virtual std::vector<StateSpec> inner_specs(const Slot& slot, const Shape& gradient) const = 0;
  /// The inner rule's step: what it takes from a parameter whose gradient is `gradient`; rates are
  /// in it, decay is not. `value` is the whole parameter.
  virtual Tensor inner_step(Slot& slot, const Tensor& gradient, const Tensor& value, double lr) = 0;
  /// The parameter after its decay and `change`.
  virtual Tensor next_value(const Slot& slot, const Tensor& value, const Tensor& change,
                            double lr) const = 0;

  void update(Slot& slot, const Tensor& gradient, double lr) override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;
  std::vector<std::string> number_names(const Slot& slot) const override;
  /// The inner rule's state tensors, in the order of inner_specs().
  std::vector<Tensor> inner_states(Slot& slot, const Shape& gradient);
};

struct GaloreAdamWOptions {
  double lr = 1e-2;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-6;
  double weight_decay = 0.0;  // decoupled, with the full rate
  std::optional<ProjectionOptions> projection = std::nullopt;
};

/// The inner rule is Adam as GaLore has it, with eps on the root before its correction; decay comes
/// after the step:
///   m += (1 - beta1) (R - m);  v = beta2 v + (1 - beta2) R^2
///   N = lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / (sqrt(v) + eps);  at the end p -= lr *
///   weight_decay * p
/// State: exp_avg, exp_avg_sq.
class TENDRIL_API GaloreAdamW : public Galore {
 public:
  /// An optimizer without parameters; add groups.
  GaloreAdamW() = default;
  explicit GaloreAdamW(const std::vector<NamedTensor>& parameters,
                       const GaloreAdamWOptions& options = {});
  explicit GaloreAdamW(const std::vector<Tensor>& parameters,
                       const GaloreAdamWOptions& options = {});
  void add_param_group(const std::vector<NamedTensor>& parameters,
                       const GaloreAdamWOptions& options = {});

 protected:
  void update_all(std::span<Slot* const> slots) override;
  std::vector<StateSpec> inner_specs(const Slot& slot, const Shape& gradient) const override;
  Tensor inner_step(Slot& slot, const Tensor& gradient, const Tensor& value, double lr) override;
  Tensor next_value(const Slot& slot, const Tensor& value, const Tensor& change,
                    double lr) const override;

 private:
  std::vector<GaloreAdamWOptions> options_;  // one per group
};

struct GaloreAdafactorOptions {
  AdafactorOptions adafactor;
  std::optional<ProjectionOptions> projection = std::nullopt;
};

/// The inner rule is Adafactor's (adafactor.h): second moments, clipping and the optional mean are
/// of R, while scale_parameter looks at the whole parameter.
class TENDRIL_API GaloreAdafactor : public Galore {
 public:
  /// An optimizer without parameters; add groups.
  GaloreAdafactor() = default;
  explicit GaloreAdafactor(const std::vector<NamedTensor>& parameters,
                           const GaloreAdafactorOptions& options = {});
  explicit GaloreAdafactor(const std::vector<Tensor>& parameters,
                           const GaloreAdafactorOptions& options = {});
  void add_param_group(const std::vector<NamedTensor>& parameters,
                       const GaloreAdafactorOptions& options = {});

 protected:
  std::vector<StateSpec> inner_specs(const Slot& slot, const Shape& gradient) const override;
  Tensor inner_step(Slot& slot, const Tensor& gradient, const Tensor& value, double lr) override;
  Tensor next_value(const Slot& slot, const Tensor& value, const Tensor& change,
                    double lr) const override;

 private:
  std::vector<GaloreAdafactorOptions> options_;  // one per group
};

}  // namespace tendril::optim
