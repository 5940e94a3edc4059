#include <tendril/trainer/callbacks/reporters/reporter.h>

namespace tendril {

void Reporter::on_train_begin(CallbackContext& context) {
  if (context.state.is_world_process_zero) begin(context);
}

void Reporter::on_log(CallbackContext& context) {
  if (context.logs && context.state.is_world_process_zero)
    write_row(context, row_with_step(context.state.global_step, *context.logs));
}

void Reporter::on_train_end(CallbackContext& context) {
  if (context.state.is_world_process_zero) end(context);
}

Json row_with_step(int64_t step, const Json& row) {
  Json result = Json::object().set("step", step);
  for (const auto& [key, value] : row.members())
    if (key != "step") result.set(key, value);
  return result;
}

std::string grouped_key(const std::string& key) {
  if (key.starts_with("eval_")) return "eval/" + key.substr(5);
  if (key.starts_with("test_")) return "test/" + key.substr(5);
  return "train/" + key;
}

}  // namespace tendril
