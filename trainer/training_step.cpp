// One optimizer step: loss, backward, finite check, clipping, update.
#include <tendril/autograd/autocast.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/allocator.h>
#include <tendril/core/log.h>
#include <tendril/nn/embedding.h>
#include <tendril/optim/clip.h>
#include <tendril/optim/layerwise.h>
#include <tendril/trainer/distribution.h>
#include <tendril/trainer/embedding_noise.h>
#include <tendril/trainer/optimizer_choice.h>
#include <tendril/trainer/training_loop.h>

#include <cmath>

namespace tendril {
namespace {

bool is_finite(const Tensor& x) { return all(isfinite(x)).item<bool>(); }

// "; the first of 3 parameters whose gradient is not finite is h.0.attn.c_attn.weight"
std::string culprit(const std::vector<NamedTensor>& parameters) {
  const NoGradGuard no_grad;
  std::string first;
  int64_t count = 0;
  for (const NamedTensor& parameter : parameters) {
    const Tensor gradient = parameter.tensor.grad();
    if (!gradient.defined() || is_finite(gradient)) continue;
    if (count++ == 0) first = parameter.name;
  }
  if (count == 0) return "; all gradients are finite";
  return detail::concat("; the first of ", count, " parameters whose gradient is not finite is ",
                        first);
}

}  // namespace

std::optional<DType> Trainer::autocast_dtype() const {
  if (args_.bf16) return bf16;
  if (args_.fp16) return f16;
  return {};
}

Trainer::LossOutput Trainer::compute_loss(const TrainableModel& model, Batch& inputs,
                                          const LossRequest& request) {
  LossOutput result;
  if (options_.compute_loss_func) {
    result.outputs = model(inputs, {.return_outputs = true});
    result.loss = options_.compute_loss_func(result.outputs, inputs, request.num_items_in_batch);
    result.used_num_items = request.num_items_in_batch.has_value();
  } else if (request.label_smoothing > 0.0 && !model.takes_loss_request()) {
    // The loss from the predictions, as the model knows no smoothing.
    const Tensor labels = column(inputs, kLabels);
    result.outputs = model(inputs);
    TENDRIL_CHECK(!result.outputs.outputs.empty(),
                  "[compute_loss] label_smoothing_factor needs the model's predictions; it "
                  "returned none");
    result.loss = cross_entropy(result.outputs.outputs.front().second, labels,
                                {.label_smoothing = request.label_smoothing});
  } else {
    result.outputs = model(inputs, request);
    result.loss = result.outputs.loss;
    result.used_num_items = model.takes_loss_request() && request.num_items_in_batch.has_value();
  }
  return result;
}

Tensor Trainer::training_step(const TrainableModel& model, Batch& inputs,
                              std::optional<int64_t> num_items_in_batch) {
  model.module().train();
  distribution_->before_forward();
  std::optional<NoiseLengths> lengths;  // until backward is done, which may recompute
  if (args_.neftune_length == NeftuneLength::sequence) lengths.emplace(model.module(), inputs);
  inputs = to_device(std::move(inputs));
  LossOutput output;
  {
    const AutocastGuard autocast(autocast_dtype());
    output = compute_loss(model, inputs,
                          {.num_items_in_batch = num_items_in_batch,
                           .label_smoothing = args_.label_smoothing_factor});
  }
  require_loss(output, inputs);
  if (args_.torch_empty_cache_steps && state_.global_step % *args_.torch_empty_cache_steps == 0)
    empty_cache(output.loss.device());
  Tensor loss = output.loss;
  const int64_t accumulated = loop_ ? loop_->accumulated : 1;
  if (!output.used_num_items && accumulated > 1) loss = loss / static_cast<double>(accumulated);
  // Exchanged gradients are means over processes; a loss that is divided by the positions of all of
  // them wants the sum.
  if (output.used_num_items && distribution_->size() > 1)
    loss = loss * static_cast<double>(distribution_->size());
  output = {};  // what only the outputs hold is freed before backward
  // Where backward is the update, only now can it still be left out.
  if (optimizer_ && optimizer_->updates_in_backward() &&
      args_.nonfinite_policy != NonfinitePolicy::continue_ &&
      distribution_->sum(int64_t{!is_finite(loss.detach())}) > 0)
    return loss.detach();
  if (loop_ && loop_->scaler)
    loop_->scaler->scale(loss).backward();
  else
    loss.backward();
  return loss.detach();
}

void Trainer::require_loss(const LossOutput& output, const Batch& inputs) const {
  if (output.loss.defined()) {
    TENDRIL_CHECK(output.loss.numel() == 1,
                  "[compute_loss] the loss must be one number; got shape ", output.loss.shape(),
                  "; reduce it with mean()");
    return;
  }
  std::string returned, given;
  for (const auto& [name, tensor] : output.outputs.outputs)
    returned += (returned.empty() ? "" : ", ") + name;
  for (const auto& [name, tensor] : inputs) given += (given.empty() ? "" : ", ") + name;
  fail("[compute_loss] the model returned no loss, only ", returned.empty() ? "nothing" : returned,
       "; the batch had ", given,
       ". Give it labels, pass compute_loss_func or override compute_loss()");
}

// One batch of a step. Where backward is the update, the norm to clip by comes from a first run
// with the same random numbers; one that is not finite leaves the second out.
Tensor Trainer::run_batch(Loop& loop, Batch& batch, std::optional<int64_t> items) {
  loop.measured_norm.reset();
  if (!optimizer_->updates_in_backward() || args_.max_grad_norm <= 0.0 ||
      !clips_in_two_passes(args_))
    return training_step(model_, batch, items);
  optim::BackwardUpdates& updates = optimizer_->backward_updates();
  const Generator::State random = default_generator().state();
  Batch copy = batch;
  Tensor loss;
  loop.measured_norm = updates.measure_norm([&] { loss = training_step(model_, copy, items); });
  if (!std::isfinite(*loop.measured_norm) && args_.nonfinite_policy != NonfinitePolicy::continue_)
    return loss;
  default_generator().set_state(random);
  updates.set_clip(*loop.measured_norm, args_.max_grad_norm);
  return training_step(model_, batch, items);
}

void Trainer::run_optimizer_step(Loop& loop) {
  if (loop.scaler) loop.scaler->unscale(*optimizer_);
  agree_on_step(loop);
  std::optional<double> norm;
  if (optimizer_->updates_in_backward())
    norm = loop.measured_norm;
  else if (args_.max_grad_norm > 0.0)
    norm = distribution_->clip_grad_norm(loop.parameters, args_.max_grad_norm);
  else if (args_.nonfinite_policy != NonfinitePolicy::continue_)
    norm = distribution_->grad_norm(loop.parameters);
  const double loss = loop.step_loss.item<double>();
  const bool scaler_skips = loop.scaler && loop.scaler->found_inf();
  const bool update = !scaler_skips && is_usable(loop, loss, norm);

  fire(&TrainerCallback::on_pre_optimizer_step);
  if (update) optimizer_->step();
  if (loop.scaler) loop.scaler->update();
  fire(&TrainerCallback::on_optimizer_step);

  loop.learning_rate = optimizer_->lr();
  if (args_.max_grad_norm > 0.0) loop.grad_norm = norm;
  if (update && !lr_scheduler_->needs_metric()) ++loop.scheduler_step;
  optimizer_->scale_lr(lr_scheduler_->factor(loop.scheduler_step));
  optimizer_->zero_grad();

  ++state_.global_step;
  loop.window.add(loss, state_.global_step, args_.logging_nan_inf_filter);
  state_.epoch = loop.plan.epoch_after(loop.epoch, loop.batch, args_.gradient_accumulation_steps);
  fire(&TrainerCallback::on_step_end);
  maybe_log_save_evaluate(loop);
}

// The step's loss, signals, overflows and tokens are those of all processes: each does the same
// with them.
void Trainer::agree_on_step(Loop& loop) {
  if (distribution_->size() == 1) return;
  const bool overflow = loop.scaler && loop.scaler->found_inf();
  const std::vector<double> sums =
      distribution_->sum({loop.step_loss.item<double>(), loop.signalled() ? 1.0 : 0.0,
                          overflow ? 1.0 : 0.0, static_cast<double>(loop.step_tokens)});
  loop.step_loss = full({}, sums[0] / distribution_->size(), f64);
  loop.others_stop = sums[1] > 0.0;
  state_.num_input_tokens_seen += static_cast<int64_t>(sums[3]);
  loop.step_tokens = 0;
  if (loop.scaler && sums[2] > 0.0) loop.scaler->set_found_inf();
}

// Whether the gradients may update the weights. A loss scaler looks after f16 itself.
bool Trainer::is_usable(Loop& loop, double loss, std::optional<double> norm) {
  const NonfinitePolicy policy = args_.nonfinite_policy;
  if (std::isfinite(loss) && (!norm || std::isfinite(*norm))) return true;
  if (policy == NonfinitePolicy::continue_ && loop.warned_nonfinite) return true;
  const std::string what = detail::concat(
      "[train] step ", state_.global_step + 1, ": ",
      std::isfinite(loss) ? "the gradient is not finite" : "the loss is not finite", "; got loss ",
      loss, optimizer_->updates_in_backward() ? "" : culprit(trained_parameters()));
  if (policy == NonfinitePolicy::stop)
    fail(what,
         ". A lower learning rate, more warm-up or f32 may help; nonfinite_policy=skip leaves "
         "out such steps");
  log_warning(what, policy == NonfinitePolicy::skip ? "; this step is left out"
                                                    : "; training goes on with it");
  loop.warned_nonfinite = true;
  return policy == NonfinitePolicy::continue_;
}

double Trainer::floating_point_ops(const Batch& inputs) const {
  if (!nonembedding_parameters_) {
    int64_t embeddings = 0;
    model_.module().for_each_module([&](const std::string&, nn::Module& module) {
      if (auto* embedding = dynamic_cast<nn::Embedding*>(&module))
        embeddings += embedding->weight().numel();
    });
    nonembedding_parameters_ = model_.module().parameter_count() - embeddings;
  }
  const Tensor* input = detail::find_main_input(inputs);
  if (!input) return 0.0;
  return 6.0 * static_cast<double>(input->numel()) * static_cast<double>(*nonembedding_parameters_);
}

}  // namespace tendril
