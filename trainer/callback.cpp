#include <tendril/trainer/callback.h>

#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <typeinfo>

#include <tendril/core/error.h>
#include <tendril/core/log.h>
#include <tendril/trainer/callbacks/default_flow.h>

namespace tendril {
namespace {

constexpr const char* kControlName = "TrainerControl";

// "ns::(anonymous namespace)::Outer<ns::T>::Name<ns::U>" -> "Name<ns::U>": what follows the last
// "::" outside of brackets.
std::string without_namespaces(const std::string& name) {
  int depth = 0;
  size_t start = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '<' || name[i] == '(') ++depth;
    if (name[i] == '>' || name[i] == ')') --depth;
    if (depth == 0 && name.compare(i, 2, "::") == 0) start = i + 2;
  }
  return name.substr(start);
}

// Clears the control flags of an event. Being a callback itself, it is told which event by the same
// virtual call as all others: pointers to virtual functions cannot be compared portably.
struct ClearFlags final : TrainerCallback {
  void on_train_begin(CallbackContext& c) override { c.control.should_training_stop = false; }
  void on_epoch_begin(CallbackContext& c) override { c.control.should_epoch_stop = false; }
  void on_step_begin(CallbackContext& c) override {
    c.control.should_log = c.control.should_evaluate = c.control.should_save = false;
  }
  void on_log(CallbackContext& c) override { c.control.should_log = false; }
  void on_evaluate(CallbackContext& c) override { c.control.should_evaluate = false; }
  void on_save(CallbackContext& c) override { c.control.should_save = false; }
};

// Without DefaultFlowCallback nobody asks for logs, evaluations and checkpoints, or for the end.
struct WarnWithoutFlow final : TrainerCallback {
  const std::vector<std::shared_ptr<TrainerCallback>>& callbacks;
  explicit WarnWithoutFlow(const std::vector<std::shared_ptr<TrainerCallback>>& callbacks)
      : callbacks(callbacks) {}
  void on_train_begin(CallbackContext&) override {
    for (const auto& callback : callbacks)
      if (dynamic_cast<const DefaultFlowCallback*>(callback.get())) return;
    log_warning(
        "[callbacks] there is no DefaultFlowCallback: training will not log, evaluate, save or "
        "stop at max_steps unless another callback asks for it");
  }
};

}  // namespace

TrainerCallback::~TrainerCallback() = default;

std::string TrainerCallback::name() const {
  const char* mangled = typeid(*this).name();
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> readable(
      abi::__cxa_demangle(mangled, nullptr, nullptr, &status), std::free);
  return without_namespaces(status == 0 ? readable.get() : mangled);
}

void CallbackHandler::add(std::shared_ptr<TrainerCallback> callback) {
  TENDRIL_CHECK(callback, "[add_callback] the callback is null");
  if (find(callback->name()))
    log_warning("[add_callback] there is a ", callback->name(),
                " already; the second is added as well");
  callbacks_.push_back(std::move(callback));
}

std::shared_ptr<TrainerCallback> CallbackHandler::pop(const TrainerCallback& callback) {
  const auto place = std::find_if(callbacks_.begin(), callbacks_.end(),
                                  [&](const auto& known) { return known.get() == &callback; });
  if (place == callbacks_.end()) return nullptr;
  std::shared_ptr<TrainerCallback> result = std::move(*place);
  callbacks_.erase(place);
  return result;
}

std::shared_ptr<TrainerCallback> CallbackHandler::pop(const std::string& name) {
  const std::shared_ptr<TrainerCallback> found = find(name);
  return found ? pop(*found) : nullptr;
}

std::shared_ptr<TrainerCallback> CallbackHandler::find(const std::string& name) const {
  for (const auto& callback : callbacks_)
    if (callback->name() == name) return callback;
  return nullptr;
}

void CallbackHandler::call(Event event, CallbackContext& context) {
  ClearFlags clear;
  (clear.*event)(context);
  // A copy: a callback may add or take out callbacks, itself too.
  const std::vector<std::shared_ptr<TrainerCallback>> callbacks = callbacks_;
  WarnWithoutFlow warn(callbacks);
  (warn.*event)(context);
  for (const auto& callback : callbacks) (callback.get()->*event)(context);
}

// Made anew at each call. (The Hugging Face Trainer appends to the saved array of several callbacks
// of one class at each checkpoint, so that it grows without end.)
Json CallbackHandler::states(const TrainerControl& control) const {
  Json result = Json::object().set(kControlName, control.state());
  for (const auto& callback : callbacks_) {
    Json state = callback->state();
    if (state.is_null()) continue;
    const std::string name = callback->name();
    const Json* before = result.find(name);
    if (!before) {
      result.set(name, std::move(state));
    } else {
      Json several = before->is_array() ? *before : Json(Json::Array{*before});
      result.set(name, several.push_back(std::move(state)));
    }
  }
  return result;
}

void CallbackHandler::load_states(const Json& states, TrainerControl& control) {
  std::string left_over;
  for (const auto& [name, saved] : states.members()) {
    if (name == kControlName) {
      control.load_state(saved);
      continue;
    }
    const Json::Array parts = saved.is_array() ? saved.items() : Json::Array{saved};
    size_t taken = 0;
    for (const auto& callback : callbacks_) {
      if (taken == parts.size()) break;
      if (callback->name() == name && !callback->state().is_null())
        callback->load_state(parts[taken++]);
    }
    if (taken < parts.size()) left_over += (left_over.empty() ? "" : ", ") + name;
  }
  if (!left_over.empty())
    log_warning("[callbacks] the checkpoint has the state of callbacks that this trainer has not: ",
                left_over);
}

namespace {

// The prefix of each callback's tensors.
std::vector<std::string> tensor_prefixes(
    const std::vector<std::shared_ptr<TrainerCallback>>& callbacks) {
  std::map<std::string, int64_t> count;
  std::vector<std::string> prefixes;
  for (const auto& callback : callbacks) {
    const std::string name = callback->name();
    prefixes.push_back(name + "." + std::to_string(count[name]++) + ".");
  }
  return prefixes;
}

}  // namespace

StateDict CallbackHandler::tensors() const {
  const std::vector<std::string> prefixes = tensor_prefixes(callbacks_);
  StateDict state;
  for (size_t i = 0; i < callbacks_.size(); ++i)
    for (const auto& [name, tensor] : callbacks_[i]->tensors())
      state.emplace(prefixes[i] + name, tensor);
  return state;
}

void CallbackHandler::load_tensors(const StateDict& state) {
  const std::vector<std::string> prefixes = tensor_prefixes(callbacks_);
  for (size_t i = 0; i < callbacks_.size(); ++i) {
    StateDict own;
    for (const auto& [name, tensor] : state)
      if (name.starts_with(prefixes[i])) own.emplace(name.substr(prefixes[i].size()), tensor);
    if (!own.empty()) callbacks_[i]->load_tensors(own);
  }
}

}  // namespace tendril
