#include <tendril/trainer/trainer_state.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include <tendril/core/error.h>

namespace tendril {
namespace {

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json or_null(const std::optional<double>& value) { return value ? json_number(*value) : Json(); }

// Whole steps are integers in the file, as readers expect; a fraction stays one.
Json steps_to_json(double steps) {
  const bool whole = std::abs(steps) < 0x1p53 && steps == std::floor(steps);
  return whole ? Json(static_cast<int64_t>(steps)) : json_number(steps);
}

Json sorted(const Json& value) {
  if (value.is_array()) {
    Json result = Json::array();
    for (const Json& item : value.items()) result.push_back(sorted(item));
    return result;
  }
  if (!value.is_object()) return value;
  std::vector<const Json::Member*> members;
  for (const Json::Member& member : value.members()) members.push_back(&member);
  std::sort(members.begin(), members.end(),
            [](const auto* a, const auto* b) { return a->first < b->first; });
  Json result = Json::object();
  for (const Json::Member* member : members) result.set(member->first, sorted(member->second));
  return result;
}

// Reads members of one object. A message names the file, the member, and what it should have been.
class MemberReader {
 public:
  MemberReader(const Json& object, const std::string& origin) : object_(object), origin_(origin) {
    TENDRIL_CHECK(object.is_object(), "[trainer_state] ", origin, ": the file must hold an object");
  }

  int64_t integer(const char* name) const {
    const Json& value = required(name);
    check(value.is_integer(), name, "an integer", value);
    return value.as_int();
  }
  double number(const char* name) const {
    const Json& value = required(name);
    check(value.is_number(), name, "a number", value);
    return value.as_double();
  }
  std::optional<double> optional_number(const char* name) const {
    if (required(name).is_null()) return std::nullopt;
    return number(name);
  }
  std::optional<std::string> optional_text(const char* name) const {
    const Json& value = required(name);
    if (value.is_null()) return std::nullopt;
    check(value.is_string(), name, "a string or null", value);
    return value.as_string();
  }
  const std::vector<Json>& rows(const char* name) const {
    const Json& value = required(name);
    check(value.is_array(), name, "an array", value);
    for (const Json& row : value.items()) check(row.is_object(), name, "an array of objects", row);
    return value.items();
  }
  bool boolean(const char* name) const {
    const Json& value = required(name);
    check(value.kind() == Json::Kind::boolean, name, "true or false", value);
    return value.as_bool();
  }
  const Json& object(const char* name) const {
    const Json& value = required(name);
    check(value.is_object(), name, "an object", value);
    return value;
  }
  /// Present and not null.
  bool has(const char* name) const {
    const Json* value = object_.find(name);
    return value && !value->is_null();
  }

 private:
  const Json& required(const char* name) const {
    const Json* value = object_.find(name);
    TENDRIL_CHECK(value, "[trainer_state] ", origin_, ": the member \"", name, "\" is missing");
    return *value;
  }
  void check(bool right, const char* name, const char* wanted, const Json& value) const {
    TENDRIL_CHECK(right, "[trainer_state] ", origin_, ": the member \"", name, "\" must be ",
                  wanted, "; got ", value.dump().substr(0, 60));
  }

  const Json& object_;
  const std::string& origin_;
};

}  // namespace

Json json_number(double value) {
  if (!std::isfinite(value)) return Json();
  char digits[32];
  std::string text(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
  // A float stays one for readers that tell 1.0 from 1, such as Python's. Parsing keeps the text,
  // which Json(double) would shorten.
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return Json::parse(text, "a number");
}

std::string TrainerState::to_json_string() const {
  Json history = Json::array();
  for (const Json& row : log_history) history.push_back(row);
  Json result = Json::object();
  result.set("best_global_step", or_null(best_global_step))
      .set("best_metric", or_null(best_metric))
      .set("best_model_checkpoint", or_null(best_model_checkpoint))
      .set("epoch", or_null(epoch))
      .set("eval_steps", steps_to_json(eval_steps))
      .set("global_step", global_step)
      .set("is_hyper_param_search", is_hyper_param_search)
      .set("is_local_process_zero", is_local_process_zero)
      .set("is_world_process_zero", is_world_process_zero)
      .set("log_history", std::move(history))
      .set("logging_steps", steps_to_json(logging_steps))
      .set("max_steps", max_steps)
      .set("num_input_tokens_seen", num_input_tokens_seen)
      .set("num_train_epochs", num_train_epochs)
      .set("save_steps", steps_to_json(save_steps))
      .set("stateful_callbacks", stateful_callbacks)
      .set("total_flos", json_number(total_flos))
      .set("train_batch_size", or_null(train_batch_size))
      .set("trial_name", or_null(trial_name))
      .set("trial_params", trial_params);
  return sorted(result).dump(2) + "\n";
}

TrainerState TrainerState::from_json(const Json& object, const std::string& origin) {
  const MemberReader reader(object, origin);
  TrainerState state;
  state.epoch = reader.optional_number("epoch");
  state.global_step = reader.integer("global_step");
  state.max_steps = reader.integer("max_steps");
  state.num_train_epochs = reader.integer("num_train_epochs");
  state.logging_steps = reader.number("logging_steps");
  state.eval_steps = reader.number("eval_steps");
  state.save_steps = reader.number("save_steps");
  state.total_flos = reader.number("total_flos");
  state.log_history = reader.rows("log_history");
  state.best_metric = reader.optional_number("best_metric");
  state.best_model_checkpoint = reader.optional_text("best_model_checkpoint");
  // The rest is younger than some files of the Hugging Face Trainer, and has a safe default.
  if (reader.has("best_global_step")) state.best_global_step = reader.integer("best_global_step");
  if (reader.has("train_batch_size")) state.train_batch_size = reader.integer("train_batch_size");
  if (reader.has("num_input_tokens_seen"))
    state.num_input_tokens_seen = reader.integer("num_input_tokens_seen");
  if (reader.has("is_local_process_zero"))
    state.is_local_process_zero = reader.boolean("is_local_process_zero");
  if (reader.has("is_world_process_zero"))
    state.is_world_process_zero = reader.boolean("is_world_process_zero");
  if (reader.has("is_hyper_param_search"))
    state.is_hyper_param_search = reader.boolean("is_hyper_param_search");
  if (reader.has("trial_name")) state.trial_name = reader.optional_text("trial_name");
  if (reader.has("trial_params")) state.trial_params = reader.object("trial_params");
  if (reader.has("stateful_callbacks"))
    state.stateful_callbacks = reader.object("stateful_callbacks");
  return state;
}

Json TrainerControl::state() const {
  Json flags = Json::object();
  flags.set("should_epoch_stop", should_epoch_stop)
      .set("should_evaluate", should_evaluate)
      .set("should_log", should_log)
      .set("should_save", should_save)
      .set("should_training_stop", should_training_stop);
  return Json::object().set("args", std::move(flags)).set("attributes", Json::object());
}

void TrainerControl::load_state(const Json& state) {
  const MemberReader outer(state, "TrainerControl");
  const MemberReader flags(outer.object("args"), "TrainerControl");
  should_epoch_stop = flags.boolean("should_epoch_stop");
  should_evaluate = flags.boolean("should_evaluate");
  should_log = flags.boolean("should_log");
  should_save = flags.boolean("should_save");
  should_training_stop = flags.boolean("should_training_stop");
}

}  // namespace tendril
