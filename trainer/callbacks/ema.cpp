#include <tendril/trainer/callbacks/ema.h>

#include <algorithm>

#include <tendril/autograd/functions.h>
#include <tendril/autograd/tape.h>
#include <tendril/core/log.h>
#include <tendril/core/ops/copy.h>

namespace tendril {
namespace {

DType average_dtype(const Tensor& parameter) { return parameter.dtype() == f64 ? f64 : f32; }

std::vector<NamedTensor> trained(const nn::Module& model) {
  std::vector<NamedTensor> list = model.named_parameters();
  std::erase_if(list, [](const NamedTensor& entry) { return !entry.tensor.requires_grad(); });
  return list;
}

// Grows whenever somebody changes a parameter in place.
uint64_t version_of(const std::vector<NamedTensor>& parameters) {
  uint64_t sum = 0;
  for (const NamedTensor& entry : parameters) sum += entry.tensor.storage()->version();
  return sum;
}

}  // namespace

EmaCallback::EmaCallback(const EmaOptions& options) : options_(options) {
  TENDRIL_CHECK(options.decay >= 0.0 && options.decay < 1.0, "[ema] decay must be in [0, 1); got ",
                options.decay);
}

void EmaCallback::on_train_begin(CallbackContext& context) {
  for (const Tensor& parameter : context.model->parameters())
    TENDRIL_CHECK(!parameter.storage()->is_on_demand(),
                  "[ema] averages whole weights, which no process of a sharded run keeps; use it "
                  "without fsdp and deepspeed");
  start(*context.model);
  if (!loaded_.empty()) {
    take_loaded();
  } else {
    updates_ = 0;
    if (context.state.global_step > 0)
      log_warning(
          "[ema] training resumes without the averages of its checkpoint, and they begin anew; "
          "restore_callback_states_from_checkpoint brings them back");
  }
  version_ = version_of(trained(*context.model));
}

void EmaCallback::start(const nn::Module& model) {
  entries_.clear();
  for (const NamedTensor& entry : trained(model))
    entries_.push_back({entry.name, entry.tensor,
                        clone(ops::cast(entry.tensor.detach(), average_dtype(entry.tensor)))});
}

// Each average takes its saved value.
void EmaCallback::take_loaded() {
  const StateDict loaded = std::exchange(loaded_, {});
  TENDRIL_CHECK(loaded.size() == entries_.size(), "[ema] the checkpoint has ", loaded.size(),
                " averages, but ", entries_.size(), " parameters train");
  for (Entry& entry : entries_) {
    const auto found = loaded.find(entry.name);
    TENDRIL_CHECK(found != loaded.end(), "[ema] the checkpoint has no average of \"", entry.name,
                  "\"");
    const Tensor& saved = found->second;
    TENDRIL_CHECK(saved.shape() == entry.average.shape() && is_floating(saved.dtype()),
                  "[ema] the average of \"", entry.name, "\" must be floating-point of shape ",
                  entry.average.shape(), "; got ", saved.dtype(), " ", saved.shape());
    ops::copy(entry.average, saved);
  }
}

void EmaCallback::on_step_end(CallbackContext& context) {
  const uint64_t version = version_of(trained(*context.model));
  if (version == version_) return;  // the step was left out
  version_ = version;
  const double t = static_cast<double>(updates_++);
  const double decay =
      options_.warmup ? std::min(options_.decay, (1.0 + t) / (10.0 + t)) : options_.decay;
  const NoGradGuard no_grad;
  for (const Entry& entry : entries_) {
    const Tensor value = ops::cast(entry.parameter.detach(), entry.average.dtype());
    ops::copy(entry.average, entry.average + (value - entry.average) * (1.0 - decay));
  }
}

void EmaCallback::copy_to(nn::Module& model) const {
  const std::vector<NamedTensor> parameters = trained(model);
  const auto fits = [](const NamedTensor& a, const Entry& b) {
    return a.name == b.name && a.tensor.shape() == b.average.shape();
  };
  TENDRIL_CHECK(
      std::equal(parameters.begin(), parameters.end(), entries_.begin(), entries_.end(), fits),
      "[ema] these are the averages of a model with other parameters: ", entries_.size(),
      " that train, got ", parameters.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    ops::copy(parameters[i].tensor, entries_[i].average);
    parameters[i].tensor.bump_version();
  }
}

void EmaCallback::begin_evaluation(nn::Module&) {
  if (!options_.evaluate || !originals_.empty()) return;
  std::vector<Tensor> averages, originals;
  for (const Entry& entry : entries_) {
    averages.push_back(ops::cast(entry.average, entry.parameter.dtype()));
    originals.push_back(entry.parameter.detach());
  }
  originals_ = std::move(originals);
  for (size_t i = 0; i < entries_.size(); ++i) entries_[i].parameter.set_data(averages[i]);
}

void EmaCallback::end_evaluation(nn::Module&) {
  for (size_t i = 0; i < originals_.size(); ++i) entries_[i].parameter.set_data(originals_[i]);
  originals_.clear();
}

Json EmaCallback::state() const {
  return Json::object()
      .set("args", Json::object()
                       .set("decay", json_number(options_.decay))
                       .set("warmup", options_.warmup)
                       .set("evaluate", options_.evaluate))
      .set("attributes", Json::object().set("updates", updates_));
}

// The options are the program's; what has happened is the checkpoint's.
void EmaCallback::load_state(const Json& state) {
  updates_ = state.at("attributes").at("updates").as_int();
}

StateDict EmaCallback::tensors() const {
  StateDict state;
  for (const Entry& entry : entries_) state.emplace(entry.name, entry.average);
  return state;
}

void EmaCallback::load_tensors(const StateDict& state) { loaded_ = state; }

}  // namespace tendril
