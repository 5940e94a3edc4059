#include <tendril/core/creation.h>
#include <tendril/trainer/trainable_model.h>

#include <algorithm>

namespace tendril {
namespace {

constexpr int64_t kIgnored = -100;

template <class Entries>
std::string names_of(const Entries& entries) {
  std::string names;
  for (const auto& [name, tensor] : entries) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "nothing" : names;
}

bool is_label(const std::string& name) { return name == kLabels || name == kShiftLabels; }

// Causal attention never looks to the right, so padding there needs no mask; padding on the left
// would be attended to.
void require_right_padding(const Batch& batch) {
  const auto mask = batch.find("attention_mask");
  if (mask == batch.end()) return;
  const int64_t T = mask->second.size(-1);
  const std::vector<int64_t> kept = mask->second.to_vector<int64_t>();
  for (size_t i = 1; i < kept.size(); ++i)
    TENDRIL_CHECK(static_cast<int64_t>(i) % T == 0 || kept[i] <= kept[i - 1],
                  "[forward] a causal language model needs its padding on the right; row ",
                  static_cast<int64_t>(i) / T, " of attention_mask has a token after padding");
}

}  // namespace

const Tensor& column(const Batch& batch, const std::string& name) {
  const auto found = batch.find(name);
  TENDRIL_CHECK(found != batch.end(), "[batch] there is no column \"", name, "\"; it has ",
                names_of(batch));
  return found->second;
}

const Tensor& output(const ModelOutput& outputs, const std::string& name) {
  const auto found = std::find_if(outputs.outputs.begin(), outputs.outputs.end(),
                                  [&](const auto& entry) { return entry.first == name; });
  TENDRIL_CHECK(found != outputs.outputs.end(), "[output] the model returned no \"", name,
                "\"; it returned ", names_of(outputs.outputs));
  return found->second;
}

Tensor causal_targets(const Batch& batch) {
  if (const auto shifted = batch.find(kShiftLabels); shifted != batch.end()) return shifted->second;
  const auto found = batch.find(kLabels);
  if (found == batch.end()) return {};
  const Tensor& labels = found->second;
  TENDRIL_CHECK(labels.rank() == 2 && labels.size(1) > 0,
                "[forward] labels of a language model must be (B, T); got ", labels.shape());
  const Tensor next = slice(labels, 1, 1);
  return pad(next, {0, 0, 0, 1}, static_cast<double>(kIgnored));
}

int64_t count_labels(const Tensor& labels) {
  const std::vector<int64_t> values = labels.to_vector<int64_t>();
  return std::count_if(values.begin(), values.end(), [](int64_t v) { return v != kIgnored; });
}

std::optional<int64_t> TrainableModel::count_items(const Batch& batch) const {
  if (!takes_loss_request_) return {};
  const auto shifted = batch.find(kShiftLabels);
  const auto labels = batch.find(kLabels);
  if (shifted != batch.end() && is_causal_lm_) return count_labels(shifted->second);
  if (labels == batch.end()) return {};
  if (is_causal_lm_) return count_labels(slice(labels->second, 1, 1));
  if (is_floating(labels->second.dtype())) return labels->second.numel();
  return count_labels(labels->second);
}

std::optional<std::string> TrainableModel::config_json() const {
  if (!config_json_) return {};
  return config_json_();
}

const Tensor* detail::find_main_input(const Batch& batch) {
  for (const char* name : {"input_ids", "x", "input_values", "pixel_values", "inputs"})
    if (const auto found = batch.find(name); found != batch.end()) return &found->second;
  const Tensor* only = nullptr;
  for (const auto& [name, tensor] : batch) {
    if (is_label(name)) continue;
    if (only) return nullptr;
    only = &tensor;
  }
  return only;
}

const Tensor& detail::main_input(const Batch& batch) {
  const Tensor* input = find_main_input(batch);
  TENDRIL_CHECK(input, "[batch] which column is the input? The batch has ", names_of(batch),
                "; name it input_ids or x, or let forward take the batch");
  return *input;
}

ModelOutput detail::run_causal_lm(nn::CausalLm& model, const Batch& batch,
                                  const LossRequest& request) {
  const Tensor& tokens = column(batch, "input_ids");
  require_right_padding(batch);
  const Tensor targets = causal_targets(batch);
  const bool summed = request.num_items_in_batch.has_value();
  const CrossEntropyOptions options{.label_smoothing = request.label_smoothing,
                                    .reduction = summed ? Reduction::sum : Reduction::mean};
  ModelOutput result;
  if (targets.defined() && !request.return_outputs) {
    result.loss = model.loss(tokens, targets, options);
  } else {
    const Tensor logits = model.forward(tokens);
    if (targets.defined()) result.loss = cross_entropy(logits, targets, options);
    result.outputs.emplace_back("logits", logits);
  }
  if (summed && result.loss.defined())
    result.loss =
        result.loss / static_cast<double>(std::max<int64_t>(*request.num_items_in_batch, 1));
  return result;
}

}  // namespace tendril
