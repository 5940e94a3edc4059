#include <tendril/autograd/after_backward.h>
#include <tendril/autograd/functions.h>
#include <tendril/core/creation.h>
#include <tendril/core/log.h>
#include <tendril/core/ops/gradient_norm.h>
#include <tendril/optim/clip.h>
#include <tendril/optim/layerwise.h>

#include <cmath>
#include <numeric>

namespace tendril::optim {

void Optimizer::update_in_backward() { update_in_backward(BackwardUpdateOptions{}); }

void Optimizer::update_in_backward(const BackwardUpdateOptions& options) {
  TENDRIL_CHECK(!options.clip_value || *options.clip_value > 0.0,
                "[update_in_backward] clip_value must be positive; got ", *options.clip_value);
  if (!backward_updates_) {
    auto updates = std::make_unique<BackwardUpdates>(*this);
    for (size_t i = 0; i < slots_.size(); ++i) updates->watch(i, slots_[i].parameter);
    backward_updates_ = std::move(updates);
  }
  backward_updates_->options_ = options;
}

BackwardUpdates& Optimizer::backward_updates() {
  TENDRIL_CHECK(backward_updates_,
                "[backward_updates] this optimizer updates in step(); call update_in_backward()");
  return *backward_updates_;
}

BackwardUpdates::~BackwardUpdates() {
  for (HookHandle& hook : hooks_) hook.remove();
}

void BackwardUpdates::watch(size_t index, const Tensor& parameter) {
  TENDRIL_CHECK(parameter.requires_grad(), "[update_in_backward] parameter ", index,
                " of the optimizer does not require grad; give it only those that train");
  hooks_.push_back(register_grad_complete_hook(
      parameter, [this, index](Tensor& complete) { this->complete(index, complete); }));
}

double BackwardUpdates::measure_norm(const std::function<void()>& passes) {
  TENDRIL_CHECK(!measuring_, "[measure_norm] is running already");
  struct Measuring {
    bool& on;
    explicit Measuring(bool& on) : on(on) { on = true; }
    ~Measuring() { on = false; }
  };
  squares_.assign(hooks_.size(), 0.0);
  {
    const Measuring scope(measuring_);
    passes();
  }
  // In the order of registration, whatever the order of the pass.
  return std::sqrt(std::accumulate(squares_.begin(), squares_.end(), 0.0));
}

void BackwardUpdates::set_clip(double norm, double max_norm) {
  TENDRIL_CHECK(max_norm > 0.0, "[set_clip] max_norm must be positive; got ", max_norm);
  clip_ = Clip{norm, max_norm};
}

void BackwardUpdates::complete(size_t index, Tensor& parameter) {
  if (measuring_) {
    limit_values(parameter);
    squares_[index] += ops::sum_of_squares(parameter.grad());
    parameter.set_grad({});
    return;
  }
  // Every use that the tape knows of has run; other handles on the memory may still be read.
  if (parameter.storage().use_count() > 1) {
    ++delayed_;
    after_backward([this, index, parameter] { update(index, parameter); });
  } else {
    update(index, parameter);
  }
}

void BackwardUpdates::update(size_t index, Tensor parameter) {
  if (is_usable(index, parameter.grad())) {
    limit_values(parameter);
    if (clip_) {
      const Tensor gradient = parameter.grad();
      const Tensor norm = full({}, clip_->norm, f64, gradient.device());
      ops::clip_all({&gradient, 1}, norm, clip_->max_norm);
    }
    optimizer_.step_parameter(index);
  }
  parameter.set_grad({});
}

void BackwardUpdates::limit_values(Tensor& parameter) const {
  if (options_.clip_value) clip_grad_value({parameter}, *options_.clip_value);
}

bool BackwardUpdates::is_usable(size_t index, const Tensor& gradient) {
  if (options_.nonfinite == NonfiniteGradient::use) return true;
  if (std::isfinite(ops::largest_magnitude(gradient))) return true;
  const std::string& name = optimizer_.parameter_name(index);
  TENDRIL_CHECK(options_.nonfinite != NonfiniteGradient::error,
                "[update_in_backward] the gradient of \"", name,
                "\" is not finite; it and the parameters whose gradients would have come "
                "after it stay as they are");
  log_warning("[update_in_backward] the gradient of \"", name,
              "\" is not finite; the parameter stays as it is");
  ++skipped_;
  return false;
}

}  // namespace tendril::optim
