// Muon (Jordan 2024): momentum whose matrix is made orthogonal before each step, for the hidden
// matrices of a network; AdamW for everything else.
//
//   const optim::MuonSplit split = optim::split_for_muon(model.named_parameters());
//   optim::Muon optimizer(split.matrices, {.lr = 0.02});
//   optimizer.add_adamw_group(split.rest);
#pragma once

#include <span>
#include <variant>
#include <vector>

#include <tendril/optim/adamw.h>

namespace tendril::optim {

/// What the orthogonal matrix of `rows` x `columns` is multiplied by besides the rate.
enum class MuonScale {
  original,         // sqrt(max(1, rows / columns))
  match_rms_adamw,  // 0.2 sqrt(max(rows, columns)): as large as AdamW's steps, so that its rates
                    // fit
};

struct MuonOptions {
  double lr = 0.02;
  double momentum = 0.95;  // in [0, 1)
  bool nesterov = true;
  double weight_decay = 0.0;  // decoupled
  int64_t ns_steps = 5;       // iterations of orthogonalize()
  MuonScale scale = MuonScale::original;
};

/// The matrix with x's singular vectors and singular values near 1 (in [0.68, 1.13] for those of x
/// that are at least 0.02 of its Frobenius norm), by `steps` iterations X <- 3.4445 X + (-4.7750 A
/// + 2.0315 A A) X, A = X X^T, from X = x / (norm(x) + 1e-7). In x's own precision; Error unless x
/// has two axes.
TENDRIL_API Tensor orthogonalize(const Tensor& x, int64_t steps = 5);

/// Per matrix, with g the gradient:
///   m = momentum m + (1 - momentum) g;  u = m, or with nesterov momentum m + (1 - momentum) g
///   p -= lr * weight_decay * p;  p -= lr * scale * orthogonalize(u)
/// Parameters of more than two axes (convolutions) are taken as matrices with the first axis for
/// rows. Projections that a layer keeps in one weight (queries, keys and values) are one matrix
/// here; separate weights train better. State: momentum_buffer, for AdamW's groups exp_avg and
/// exp_avg_sq, and master for 16-bit parameters, all f32 (f64 for f64 parameters).
class TENDRIL_API Muon : public Optimizer {
 public:
  /// An optimizer without parameters; add groups.
  Muon() = default;
  explicit Muon(const std::vector<NamedTensor>& matrices, const MuonOptions& options = {});
  explicit Muon(const std::vector<Tensor>& matrices, const MuonOptions& options = {});

  /// Error for options out of range, for a parameter with fewer than two axes, and see
  /// Optimizer::register_group.
  void add_param_group(const std::vector<NamedTensor>& matrices, const MuonOptions& options = {});
  /// Parameters of any shape, for AdamW; amsgrad is not supported.
  void add_adamw_group(const std::vector<NamedTensor>& parameters,
                       const AdamWOptions& options = {
                           .lr = 3e-4, .beta2 = 0.95, .eps = 1e-10, .weight_decay = 0.0});

 protected:
  void update(Slot& slot, const Tensor& gradient, double lr) override;
  void update_all(std::span<Slot* const> slots) override;
  std::vector<StateSpec> state_specs(const Slot& slot) const override;

 private:
  std::vector<std::variant<MuonOptions, AdamWOptions>> options_;  // one per group
};

/// Muon is for hidden matrices: parameters with two and more axes, but neither embeddings nor the
/// head, which are known by a part of their names: wte, wpe, lm_head, or one with "embed" in it.
struct MuonSplit {
  std::vector<NamedTensor> matrices, rest;
};
TENDRIL_API MuonSplit split_for_muon(const std::vector<NamedTensor>& parameters);

}  // namespace tendril::optim
