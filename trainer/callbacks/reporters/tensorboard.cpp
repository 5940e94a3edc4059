#include <tendril/trainer/callbacks/reporters/tensorboard.h>

#include <limits>

namespace tendril {

void TensorBoardReporter::begin(const CallbackContext& context) {
  file_ = std::make_unique<EventFile>(folder_);
  const int64_t step = context.state.global_step;
  if (step > 0) file_->session_start(step + 1);
  file_->text(step, "args", context.args.to_json_string());
}

void TensorBoardReporter::write_row(const CallbackContext&, const Json& row) {
  if (!file_) file_ = std::make_unique<EventFile>(folder_);
  std::vector<ScalarSummary> values;
  for (const auto& [key, value] : row.members()) {
    if (key == "step" || !(value.is_number() || value.is_null())) continue;
    values.push_back({grouped_key(key), value.is_null() ? std::numeric_limits<double>::quiet_NaN()
                                                        : value.as_double()});
  }
  file_->scalars(row.at("step").as_int(), values);
}

}  // namespace tendril
