#include <tendril/core/log.h>
#include <tendril/core/name_pattern.h>
#include <tendril/nn/linear.h>
#include <tendril/nn/models/gpt2.h>
#include <tendril/trainer/target_modules.h>

#include <algorithm>
#include <functional>
#include <optional>

namespace tendril {
namespace {

bool is_all_linear(const std::string& key) { return key == "all-linear" || key == "all_linear"; }

bool is_linear(const nn::Module& module) {
  return dynamic_cast<const nn::Linear*>(&module) ||
         dynamic_cast<const nn::models::Conv1D*>(&module);
}

constexpr const char* kKey = "optim_target_modules";

// A part of a name need not be an expression.
std::optional<NamePattern> pattern_of(const std::string& text) {
  try {
    return NamePattern(kKey, text);
  } catch (const Error&) {
    return {};
  }
}

// How a key of a list matches; a name is what the user meant literally.
enum class Match { none, name, expression };

class Key {
 public:
  explicit Key(const std::string& text) : text_(text), expression_(pattern_of(text)) {}
  Match match(const std::string& path) const {
    if (path.find(text_) != std::string::npos) return Match::name;
    return expression_ && expression_->matches(path) ? Match::expression : Match::none;
  }

 private:
  std::string text_;
  std::optional<NamePattern> expression_;
};

using Matcher = std::function<Match(const std::string& path)>;

// "a, b, c and 9 more"
std::string abridged(const std::vector<std::string>& names) {
  constexpr size_t kShown = 40;
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kShown); ++i)
    text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kShown) text += " and " + std::to_string(names.size() - kShown) + " more";
  return names.empty() ? "none" : text;
}

std::vector<NamedTensor> matching(nn::Module& model, const Matcher& match,
                                  const std::string& wanted) {
  const std::vector<NamedTensor> parameters = model.named_parameters();
  std::vector<std::string> layers;
  std::vector<Tensor> weights;
  model.for_each_module([&](const std::string& path, nn::Module& module) {
    if (is_linear(module)) {
      layers.push_back(path);
      if (match(path) != Match::none) weights.push_back(module.parameter("weight"));
    } else if (match(path) == Match::name) {
      const std::vector<NamedTensor> own = module.named_parameters();
      const bool has_weight = std::any_of(
          own.begin(), own.end(), [](const NamedTensor& entry) { return entry.name == "weight"; });
      if (has_weight)
        log_warning("[optim_target_modules] ", path, " matches but is a ", module.type_name(),
                    ", no linear layer; its weight is not projected");
    }
  });
  std::vector<NamedTensor> targets;
  for (const NamedTensor& parameter : parameters) {
    const auto same = [&](const Tensor& weight) { return weight.is_same(parameter.tensor); };
    if (parameter.tensor.requires_grad() && std::any_of(weights.begin(), weights.end(), same))
      targets.push_back(parameter);
  }
  TENDRIL_CHECK(!targets.empty(), "[optim_target_modules] ", wanted,
                weights.empty() ? " matches no linear layer" : " matches frozen layers only",
                "; the model has ", abridged(layers));
  return targets;
}

std::vector<NamedTensor> all_linear(nn::Module& model) {
  return matching(
      model, [](const std::string&) { return Match::expression; }, "all-linear");
}

}  // namespace

std::vector<NamedTensor> target_weights(nn::Module& model, const std::vector<std::string>& keys) {
  TENDRIL_CHECK(
      !keys.empty(),
      "[optim_target_modules] is empty; name the modules, as in attn, mlp, or all-linear");
  if (keys.size() == 1 && is_all_linear(keys[0])) return all_linear(model);
  std::vector<Key> list;
  for (const std::string& key : keys) {
    TENDRIL_CHECK(!key.empty(), "[optim_target_modules] a key must not be empty");
    list.emplace_back(key);
  }
  const auto match = [&](const std::string& path) {
    Match best = Match::none;
    for (const Key& key : list)
      if (const Match found = key.match(path); found == Match::name || best == Match::none)
        best = found;
    return best;
  };
  return matching(model, match, abridged(keys));
}

std::vector<NamedTensor> target_weights(nn::Module& model, const std::string& pattern) {
  if (is_all_linear(pattern)) return all_linear(model);
  const NamePattern expression(kKey, pattern);
  const auto match = [&](const std::string& path) {
    return expression.matches(path) ? Match::expression : Match::none;
  };
  return matching(model, match, pattern);
}

}  // namespace tendril
