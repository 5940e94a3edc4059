// How the Trainer runs a model: any Module whose forward takes a batch, a tensor, or that is a
// CausalLm.
//
//   ModelOutput forward(const Batch& batch)                          everything by name
//   ModelOutput forward(const Batch& batch, const LossRequest& r)    the same, and it sums its loss
//   itself Tensor forward(const Tensor& x)                                  one input, predictions
//   out
//
// Where several fit, the one further up is taken, and nn::CausalLm before all.
#pragma once

#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tendril/nn/causal_lm.h>
#include <tendril/trainer/batch.h>

namespace tendril {

/// What compute_loss is asked for.
struct LossRequest {
  /// Label positions that count, over all batches of the optimizer step (and all processes). When
  /// given, a loss that is a sum over positions divided by it needs no further scaling, and such
  /// losses of several batches add up to the mean of the large batch.
  std::optional<int64_t> num_items_in_batch = {};
  double label_smoothing = 0.0;
  /// Predictions are needed too. Without them a language model spares its logits.
  bool return_outputs = false;
};

class TENDRIL_API TrainableModel {
 public:
  TrainableModel() = default;
  /// Refers to a model that outlives this.
  template <std::derived_from<nn::Module> M>
  TrainableModel(M& model) : TrainableModel(std::shared_ptr<M>(std::shared_ptr<void>(), &model)) {}
  template <std::derived_from<nn::Module> M>
  TrainableModel(std::shared_ptr<M> model);

  nn::Module& module() const { return *module_; }
  bool defined() const { return module_ != nullptr; }
  ModelOutput operator()(const Batch& batch, const LossRequest& request = {}) const {
    return forward_(batch, request);
  }
  /// Whether the model divides its loss by num_items_in_batch and applies label smoothing itself.
  bool takes_loss_request() const { return takes_loss_request_; }
  /// Label positions of the batch that count; nullopt when the model does not say.
  std::optional<int64_t> count_items(const Batch& batch) const;
  /// The columns it reads, when it says so with `std::vector<std::string> input_names() const`.
  const std::optional<std::vector<std::string>>& input_names() const { return input_names_; }
  /// The text of config.json, for models with `std::string config_json() const`.
  std::optional<std::string> config_json() const;
  bool is_causal_lm() const { return is_causal_lm_; }

 private:
  using Forward = std::function<ModelOutput(const Batch&, const LossRequest&)>;

  std::shared_ptr<nn::Module> module_;
  Forward forward_;
  std::function<std::string()> config_json_;  // empty: none
  std::optional<std::vector<std::string>> input_names_;
  bool takes_loss_request_ = false, is_causal_lm_ = false;
};

/// The columns that the Trainer treats as labels unless label_names says otherwise.
inline constexpr const char* kLabels = "labels";
inline constexpr const char* kShiftLabels = "shift_labels";

/// The tensor of this name; Error that lists what the batch has.
TENDRIL_API const Tensor& column(const Batch& batch, const std::string& name);
/// The output of this name; Error that lists what there is.
TENDRIL_API const Tensor& output(const ModelOutput& outputs, const std::string& name);
/// Targets (B, T) of a language model: shift_labels, or labels moved one step to the left with -100
/// at the end; undefined when the batch has neither.
TENDRIL_API Tensor causal_targets(const Batch& batch);
/// Elements of an integer tensor that are not -100.
TENDRIL_API int64_t count_labels(const Tensor& labels);

namespace detail {

TENDRIL_API ModelOutput run_causal_lm(nn::CausalLm& model, const Batch& batch,
                                      const LossRequest& request);
/// The main input: input_ids, x, input_values, pixel_values or inputs; else the only column that is
/// not a label; null when there is none or more than one.
TENDRIL_API const Tensor* find_main_input(const Batch& batch);
/// The same; Error that lists the columns when it is not clear which is the input.
TENDRIL_API const Tensor& main_input(const Batch& batch);

}  // namespace detail

template <std::derived_from<nn::Module> M>
TrainableModel::TrainableModel(std::shared_ptr<M> model) : module_(model) {
  M* raw = model.get();
  if constexpr (std::derived_from<M, nn::CausalLm>) {
    takes_loss_request_ = is_causal_lm_ = true;
    forward_ = [raw](const Batch& batch, const LossRequest& request) {
      return detail::run_causal_lm(*raw, batch, request);
    };
  } else if constexpr (requires(const Batch& b, const LossRequest& r) {
                         { raw->forward(b, r) } -> std::same_as<ModelOutput>;
                       }) {
    takes_loss_request_ = true;
    forward_ = [raw](const Batch& batch, const LossRequest& r) { return raw->forward(batch, r); };
  } else if constexpr (requires(const Batch& b) {
                         { raw->forward(b) } -> std::same_as<ModelOutput>;
                       }) {
    forward_ = [raw](const Batch& batch, const LossRequest&) { return raw->forward(batch); };
  } else {
    static_assert(
        requires(const Tensor& x) {
          { raw->forward(x) } -> std::convertible_to<Tensor>;
        },
        "The Trainer needs a model whose forward takes a Batch or a Tensor; see trainable_model.h");
    forward_ = [raw](const Batch& batch, const LossRequest&) {
      return ModelOutput{{}, {{"logits", raw->forward(detail::main_input(batch))}}};
    };
  }
  if constexpr (requires { raw->config_json(); })
    config_json_ = [raw] { return raw->config_json(); };
  if constexpr (requires { raw->input_names(); }) input_names_ = raw->input_names();
}

}  // namespace tendril
