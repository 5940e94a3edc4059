// Layer-wise training: every optimizer can update each parameter during backward, as soon as its
// gradient is complete, and free the gradient at once. At no time are there gradients of more than
// a few parameters.
//
//   optim::AdamW optimizer(model.named_parameters(), {.lr = 3e-4});
//   optimizer.update_in_backward();
//   for (...) model.loss(tokens, targets).backward();   // that was the step
//
// There is no moment at which all gradients exist: none can be summed over several batches, and
// their common norm is known only after a pass of its own. To clip by it, run the batch twice:
//
//   optim::BackwardUpdates& updates = optimizer.backward_updates();
//   const double norm = updates.measure_norm([&] { model.loss(tokens, targets).backward(); });
//   updates.set_clip(norm, 1.0);
//   model.loss(tokens, targets).backward();   // with the same random numbers
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <tendril/autograd/tape.h>
#include <tendril/optim/optimizer.h>

namespace tendril::optim {

/// What becomes of a gradient that is not finite. The parameters before it in the pass have been
/// updated by then.
enum class NonfiniteGradient {
  error,  // backward() throws, and the parameter stays
  skip,   // the parameter stays, and a warning says so
  use,    // nobody looks
};

struct BackwardUpdateOptions {
  NonfiniteGradient nonfinite = NonfiniteGradient::error;
  /// Each element of a gradient into [-value, value], before its norm is looked at.
  std::optional<double> clip_value = std::nullopt;
};

/// A parameter whose memory something else shares is updated at the end of backward() instead, as
/// the rest of the pass may read it: a detach() of it that an operation has saved, a graph that is
/// retained, but also a state_dict() that somebody keeps. Its gradient lives until then. One thing
/// cannot be seen: a checkpointed block that reads a detach() of a weight trained elsewhere.
class TENDRIL_API BackwardUpdates {
 public:
  explicit BackwardUpdates(Optimizer& optimizer) : optimizer_(optimizer) {}
  ~BackwardUpdates();
  BackwardUpdates(const BackwardUpdates&) = delete;
  BackwardUpdates& operator=(const BackwardUpdates&) = delete;

  /// Runs `passes`, whose backward passes update nothing, and returns the norm of all gradients
  /// taken as one vector.
  double measure_norm(const std::function<void()>& passes);
  /// Gradients are from now on scaled by max_norm / (norm + 1e-6) when that is below 1 and the norm
  /// finite, as clip_grad_norm() does.
  void set_clip(double norm, double max_norm);
  void clear_clip() { clip_.reset(); }

  /// How many updates had to wait for the end of their pass so far.
  int64_t delayed() const { return delayed_; }
  /// How many were left out because the gradient was not finite.
  int64_t skipped() const { return skipped_; }

 private:
  friend class Optimizer;
  struct Clip {
    double norm, max_norm;
  };
  void watch(size_t index, const Tensor& parameter);
  void complete(size_t index, Tensor& parameter);
  void limit_values(Tensor& parameter) const;
  void update(size_t index, Tensor parameter);
  bool is_usable(size_t index, const Tensor& gradient);

  Optimizer& optimizer_;
  BackwardUpdateOptions options_;
  std::vector<HookHandle> hooks_;
  bool measuring_ = false;
  std::vector<double> squares_;  // per parameter, of the pass that measures
  std::optional<Clip> clip_;
  int64_t delayed_ = 0, skipped_ = 0;
};

}  // namespace tendril::optim
